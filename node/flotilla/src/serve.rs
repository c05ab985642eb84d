//! `flotilla serve`: a node from a configuration file.

use crate::{
    Config,
    args::ServeArguments,
    node::{self, NodeError, Plan, Ready},
};

/// # Errors
/// [`NodeError`]; a bad configuration before any port is bound.
pub fn run(arguments: &ServeArguments) -> Result<(), NodeError> {
    let config = Config::read(&arguments.config)?;
    let credentials = config.node.data_dir.join("credentials");
    let plan = Plan { config, credentials, init: arguments.init };
    node::run(plan, async |ready| {
        say(&ready);
        Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "the lines that scripts wait for")]
fn say(ready: &Ready<'_>) {
    for address in ready.mirror_addresses {
        println!("mirror {}", ready.url(*address));
    }
    for address in ready.admin_addresses {
        println!("admin http://{address}");
    }
    for address in ready.addresses {
        println!("ready {}", ready.url(*address));
    }
}
