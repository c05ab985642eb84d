//! Programs of other people: what users pull with, and what is measured beside us. Each handle owns its folder and its
//! processes; nothing touches the machine's own daemons or configuration.

mod containerd;
mod docker;
mod nginx;
mod python;
mod registry;
mod tool;

pub use containerd::Containerd;
pub use docker::Docker;
pub use nginx::Nginx;
pub use python::Python;
pub use registry::Registry;
pub use tool::{Daemon, Tool, find, free_port, is_root, required, run};
