//! What the service manager is told (`sd_notify(3)`), and what its watchdog is shown. Without `NOTIFY_SOCKET` nothing.

use std::time::Duration;

use flotilla_runtime::Host;
use sd_notify::NotifyState;

pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock for the service manager"),
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Shows life twice in each period of the watchdog, as long as timers fire, tasks run and blocking work is begun. Ends
/// when the node stops: from then on the service manager counts otherwise.
pub fn watch(host: &Host) {
    let Some(period) = watchdog_period() else { return };
    let (work, drain) = (host.clone(), host.tasks.drain());
    host.tasks.spawn("watchdog", async move {
        loop {
            work.blocking.run(|| tell(&[NotifyState::Watchdog])).await;
            tokio::select! {
                () = drain.begun() => return,
                () = tokio::time::sleep(period / 2) => {}
            }
        }
    });
}

fn watchdog_period() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let period = number("WATCHDOG_USEC").filter(|usec| *usec > 0)?;
    // It may be meant for the process that started us.
    let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    ours.then(|| Duration::from_micros(period))
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::warn!(%error, "the service manager cannot be told how this node is");
    }
}
