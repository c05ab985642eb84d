use std::{future::Future, sync::Arc};

tokio::task_local! {
    static CURRENT: Trail;
}

/// The clusters that a request has come through, oldest first: what must go along when it causes a request to another
/// one, or two caches that lead to each other ask in a circle for ever.
///
/// It goes with the task, not with the arguments: a way from a door to an upstream that forgets it would be a circle
/// that nobody sees. Work that several requests share has the trail of the one that began it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail(Option<Arc<[String]>>);

impl Trail {
    pub fn new(hops: Vec<String>) -> Self {
        Self((!hops.is_empty()).then(|| hops.into()))
    }

    /// That of the request this task works on; empty for work of the node's own.
    pub fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    pub fn hops(&self) -> &[String] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Runs `work`, and what it spawns through [`crate::Tasks`], under this trail.
    pub async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tasks;

    #[tokio::test]
    async fn a_trail_goes_with_the_work_and_what_it_spawns() {
        let tasks = Tasks::default();
        let (tell, told) = tokio::sync::oneshot::channel();
        let trail = Trail::new(vec!["a".to_owned(), "b".to_owned()]);
        let spawner = tasks.clone();
        trail
            .clone()
            .scope(async move {
                spawner.spawn("outer", async move {
                    let _ = tell.send(Trail::current());
                });
            })
            .await;
        assert_eq!(told.await.unwrap(), trail);
        assert_eq!(Trail::current().hops(), [] as [&str; 0]);
    }
}
