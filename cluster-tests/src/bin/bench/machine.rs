use std::fs;

/// What was measured on, in a line.
pub fn shape() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: unknown");
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = model.trim_start_matches(['\t', ':', ' ']);
    format!("{cores} cores ({model}), {} GiB, Linux {}, loopback", kib.unwrap_or(0).div_ceil(1 << 20), kernel.trim())
}

/// Processor seconds that the process and its children have used so far.
pub fn cpu_seconds(pid: u32) -> f64 {
    // USER_HZ is 100 on every Linux that Rust runs on.
    const TICKS_PER_SECOND: f64 = 100.0;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ticks: u64 =
        pids.filter_map(stat).filter(|stat| stat.pid == pid || stat.parent == pid).map(|stat| stat.ticks).sum();
    ticks as f64 / TICKS_PER_SECOND
}

struct Stat {
    pid: u32,
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may contain anything; what follows it are numbers (proc(5)).
    let fields: Vec<_> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat { pid, parent: u32::try_from(number(1)?).ok()?, ticks: number(11)? + number(12)? })
}
