use std::time::{Duration, Instant};

/// Waits until `predicate` holds.
///
/// # Panics
/// With `why`, when it does not hold before `deadline` has passed.
#[track_caller]
pub fn wait_for(why: &str, deadline: Duration, mut predicate: impl FnMut() -> bool) {
    wait_for_some(why, deadline, || predicate().then_some(()));
}

/// Waits until `probe` yields something, and returns it.
///
/// # Panics
/// With `why`, when it yields nothing before `deadline` has passed.
#[track_caller]
pub fn wait_for_some<T>(why: &str, deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    // Short at first, so that a test costs what it waits for; longer later, so that waiting does not slow what is
    // waited for on a small machine.
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {why}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
