/// Where disk and bulk hash work runs: tokio's blocking pool, or in line where threads would break repeatability.
#[derive(Clone, Copy, Debug)]
pub enum Blocking {
    Pool,
    Inline,
}

impl Blocking {
    /// Runs `work` to its end even when the future is dropped.
    ///
    /// # Panics
    /// When `work` panics, or the runtime is shutting down.
    #[expect(clippy::disallowed_methods, reason = "this is the pool")]
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Self::Inline => work(),
            Self::Pool => match tokio::task::spawn_blocking(work).await {
                Ok(value) => value,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(error) => panic!("blocking work was cancelled: {error}"),
                },
            },
        }
    }
}
