use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
pub enum Asked {
    /// SIGTERM and SIGINT: the first asks the node to drain, the second ends the process at once.
    Stop(&'static str),
    /// SIGHUP.
    Reload,
}

pub struct Signals {
    /// Only where there is a file to read again: a terminal that is closed ends `flotilla dev`.
    hangup: Option<Signal>,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// # Errors
    /// When the process may not handle signals.
    pub fn listen(reloads: bool) -> std::io::Result<Self> {
        Ok(Self {
            hangup: reloads.then(|| signal(SignalKind::hangup())).transpose()?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Cancel safe.
    pub async fn next(&mut self) -> Asked {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = hangup => Asked::Reload,
        }
    }

    /// As [`Signals::next`], for a stop only. Cancel safe.
    pub async fn next_stop(&mut self) -> &'static str {
        loop {
            if let Asked::Stop(signal) = self.next().await {
                return signal;
            }
        }
    }
}
