//! `flotilla serve`: a node from a configuration file.

use crate::{
    Config,
    args::ServeArguments,
    node::{self, NodeError, Plan},
};

/// # Errors
/// [`NodeError`]; a bad configuration before any port is bound.
pub fn run(arguments: &ServeArguments) -> Result<(), NodeError> {
    let config = Config::read(&arguments.config)?;
    let credentials = config.node.data_dir.join("credentials");
    let plan = Plan { config, credentials, init: arguments.init };
    node::run(plan, async |ready| {
        #[expect(clippy::print_stdout, reason = "the line that scripts wait for")]
        for address in ready.addresses {
            println!("ready {}", ready.url(*address));
        }
        Ok(())
    })
}
