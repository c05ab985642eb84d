use std::{fs, io};

/// Resident memory of a process, in bytes, as `/proc/PID/status` says.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Heap and stacks: what "in bounded memory" is about.
    pub anonymous: u64,
    /// Mapped files: the page cache, which costs nobody anything.
    pub file: u64,
}

impl Memory {
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        match (kib("RssAnon:"), kib("RssFile:")) {
            (Some(anonymous), Some(file)) => Ok(Self { anonymous: anonymous << 10, file: file << 10 }),
            // A process that has ended but was not waited for has no memory lines.
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
