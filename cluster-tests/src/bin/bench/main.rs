//! `cargo run --release -p cluster-tests --bin bench -- pull [--quick]`: how fast pulls are, as ratios to Debian's
//! docker-registry and nginx on the same machine, in one run. `-- access [--quick]`: what sign-in adds to a request.
//!
//! What is compared is measured in turn, round by round, so that a machine that changes its mind changes it for all; each
//! figure is the median of its rounds. The load comes from this process, which shares the machine's cores with what it
//! measures: it reads into a fixed buffer and looks at nothing it does not need. Every server is asked first for the
//! right bytes, by digest.

#![expect(clippy::print_stdout, reason = "the table is the product")]

mod access;
mod cold;
mod load;
mod machine;
mod servers;
mod table;
mod warm;

use std::{path::PathBuf, process::ExitCode};

use table::Table;

const USAGE: &str = "usage: bench pull|access [--quick]";

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub rounds: usize,
    pub blob_bytes: u64,
    pub manifest_seconds: u64,
}

impl Effort {
    const FULL: Self = Self { rounds: 5, blob_bytes: 1 << 30, manifest_seconds: 5 };
    /// To see that the benchmark works, not how fast anything is.
    const QUICK: Self = Self { rounds: 2, blob_bytes: 256 << 20, manifest_seconds: 1 };
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (what, effort) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [what @ ("pull" | "access")] => (what, Effort::FULL),
        [what @ ("pull" | "access"), "--quick"] => (what, Effort::QUICK),
        _ => {
            println!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    let Some(flotilla) = build() else {
        println!("flotilla does not build");
        return ExitCode::FAILURE;
    };
    println!("{}\n", machine::shape());
    let mut table = Table::default();
    if what == "access" {
        access::heads(&flotilla, effort, &mut table);
        println!("{table}");
        return ExitCode::SUCCESS;
    }
    let servers = servers::Servers::start(&flotilla, effort.blob_bytes);
    for clients in [1, 8, 32] {
        warm::blobs(&servers, effort, clients, &mut table);
    }
    for method in ["HEAD", "GET"] {
        warm::manifests(&servers, effort, method, &mut table);
    }
    cold::pulls(&servers, effort, &flotilla, &mut table);
    println!("{table}");
    ExitCode::SUCCESS
}

/// Builds the binary that users run, as they build it, and says where it is: `cargo run` builds only this one.
fn build() -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status =
        std::process::Command::new(cargo).args(["build", "--release", "--locked", "-p", "flotilla"]).status().ok()?;
    let beside = std::env::current_exe().ok()?.with_file_name("flotilla");
    (status.success() && beside.is_file()).then_some(beside)
}
