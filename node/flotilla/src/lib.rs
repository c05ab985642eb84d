//! The binary: command line, configuration, assembly, the order of starting and stopping. [`main`] is here so that the
//! tests have a binary of their own and the simulation can assemble the same node from other parts.

mod args;
mod assemble;
mod config;
mod data_folder;
mod dev;
mod environment;
mod node;
mod notify;
mod reload;
mod serve;
mod signals;
mod telemetry;
mod toml_error;

pub use args::main;
pub use assemble::{Assembled, StartError, Surroundings, assemble};
pub use config::{Config, ConfigError};
pub use environment::EnvironmentProxies;
