//! `flotilla serve`: a node from a configuration file.

use crate::{
    Config,
    args::ServeArguments,
    node::{self, NodeError, Plan, Ready},
    reload::Reloader,
};

/// # Errors
/// [`NodeError`]; a bad configuration before any port is bound.
pub fn run(arguments: &ServeArguments) -> Result<(), NodeError> {
    let (config, keys) = Config::read_with_keys(&arguments.config)?;
    let credentials = config.node.data_dir.join("credentials");
    let reloader = Some(Reloader::new(&arguments.config, keys));
    let plan = Plan { config, credentials, init: arguments.init, reloader };
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
