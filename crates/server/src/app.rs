//! What all handlers share.

use std::sync::Arc;

use hypeman_host::Host;
use tokio_util::sync::CancellationToken;

use crate::auth::Scopes;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::pulls::Pulls;
use crate::refusal::{Answer, Refusal};
use crate::token::Verifier;

/// What all handlers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

struct Shared {
    host: Host,
    config: Config,
    verifier: Verifier,
    scopes: Scopes,
    pulls: Pulls,
    metrics: Metrics,
    stopping: CancellationToken,
}

impl App {
    pub(crate) fn new(
        host: Host,
        config: Config,
        verifier: Verifier,
        scopes: Scopes,
        metrics: Metrics,
        stopping: CancellationToken,
    ) -> App {
        let pulls = Pulls::new(config.limits.max_concurrent_builds);
        App(Arc::new(Shared { host, config, verifier, scopes, pulls, metrics, stopping }))
    }

    /// The host. Its functions block: see [`App::run`].
    pub(crate) fn host(&self) -> &Host {
        &self.0.host
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn verifier(&self) -> &Verifier {
        &self.0.verifier
    }

    pub(crate) fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    pub(crate) fn pulls(&self) -> &Pulls {
        &self.0.pulls
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Ends when the server ends: streams end with it.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    /// Does work that blocks, aside. It goes on when the client leaves: an operation is done to its
    /// end.
    ///
    /// # Errors
    /// The work's own.
    pub(crate) async fn run<T, E>(
        &self,
        work: impl FnOnce(&Host) -> Result<T, E> + Send + 'static,
    ) -> Answer<T>
    where
        T: Send + 'static,
        E: Into<Refusal> + Send + 'static,
    {
        let app = self.clone();
        let done = tokio::task::spawn_blocking(move || work(app.host())).await;
        done.map_err(|_| Refusal::fault())?.map_err(E::into)
    }
}
