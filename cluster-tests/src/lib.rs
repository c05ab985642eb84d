//! What the scenario tests, the real-client tests and the benchmark stand on: the server as a process, upstreams that
//! misbehave on command, images made from a seed, and a client that looks at every byte.
//!
//! Invariants:
//! - Nothing here holds a blob in memory: contents are generated where they are read, so a test may use 1 GiB layers.
//! - No fixed port, no path outside a temporary folder, no process that outlives its handle.
//! - Nothing sleeps and then asserts: [`wait_for`] waits for a level, with a deadline and a reason.

pub mod aws;
pub mod clients;
pub mod content;
pub mod http;
pub mod image;
pub mod process;
pub mod upstream;
mod wait;

pub use content::Content;
pub use http::Client;
pub use image::Image;
pub use process::Flotilla;
pub use upstream::Upstream;
pub use wait::{wait_for, wait_for_some};
