//! All scenarios in one binary, a module per theme, in the order in which a failure should be read: the layout, the main
//! job, life and death of the process, upstreams that fail, bad input, real clients, and what the README promises.

mod t10_floors;

/// The binary under test.
pub const FLOTILLA: &str = env!("CARGO_BIN_EXE_flotilla-under-test");
