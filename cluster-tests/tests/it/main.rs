//! All scenarios in one binary, a module per theme, in the order in which a failure should be read: the layout, the main
//! job, who may have what, life and death of the process, upstreams that fail, bad input, real clients, and what the
//! README promises.

mod common;
mod t10_anonymous;
mod t10_aws;
mod t10_docs;
mod t10_explain;
mod t10_floors;
mod t10_links;
mod t10_log;
mod t10_mirror;
mod t10_pull;
mod t10_robots;
mod t10_rules;
mod t10_secrets;
mod t10_sign_in;
mod t10_templates;
mod t20_crash;
mod t20_entrances;
mod t20_life;
mod t20_serve;
mod t30_cache;
mod t30_circles;
mod t30_credentials;
mod t30_cut;
mod t30_disk;
mod t30_faults;
mod t30_limits;
mod t30_memory;
mod t30_stale;
mod t40_aws_input;
mod t40_bad_input;
mod t45_attacks;
mod t50_aws_clients;
mod t50_cli;
mod t50_clients;
mod t50_mirror;
mod t50_readme;
mod t50_secrets;
mod t50_sign_in;

/// The binary under test.
pub const FLOTILLA: &str = env!("CARGO_BIN_EXE_flotilla-under-test");
