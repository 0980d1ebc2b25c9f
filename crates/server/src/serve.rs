//! The server: from its sockets to its end.

use std::time::Duration;

use axum::Router;
use hypeman_host::Host;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::{Config, MetricsConfig};
use crate::connection::Connections;
use crate::listen::{Address, Listener};
use crate::metrics::Metrics;
use crate::observed;
use crate::pulling;
use crate::routes::Api;
use crate::scrape;
use crate::secret::Secret;
use crate::telemetry::Telemetry;
use crate::token::Verifier;

/// How long requests may take to end when the server does.
const GRACE: Duration = Duration::from_secs(10);

/// Threads for work that blocks: waiting for a shim or for a disk.
const BLOCKING_THREADS: usize = 512;

/// Error of a server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or may not be taken.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file cannot be used.
    #[error(transparent)]
    Files(#[from] hypeman_files::Error),
    /// The system refused something.
    #[error("start the server")]
    System(#[from] std::io::Error),
}

/// Serves the API on `addresses`, or on the sockets that systemd has passed, until SIGTERM or
/// SIGINT. Instances are left as they are. `ready` is told the addresses.
///
/// # Errors
/// When an address cannot be listened on.
pub fn serve(
    host: Host,
    config: Config,
    secret: &Secret,
    addresses: &[Address],
    telemetry: Telemetry,
    ready: impl FnOnce(&[String]),
) -> Result<(), Error> {
    hypeman_files::raise_descriptor_limit();
    let verifier = Verifier::new(secret);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()?;
    let served = runtime.block_on(async {
        let listeners = listeners(addresses).await?;
        let stopping = CancellationToken::new();
        let api = Api::new();
        let (meter, registry) = (telemetry.meter(), telemetry.registry());
        let app = App::new(host, config, verifier, api.scopes(), Metrics::new(&meter), stopping.clone());
        observed::register(&meter, &app);
        let for_prometheus = scrape::routes(app.clone(), registry);
        run(app.clone(), [api.router(app), for_prometheus], listeners, stopping, ready).await
    });
    telemetry.end();
    // Work that blocks, such as a stop that waits for its guest, is not waited for: what it has
    // begun is as after a kill of a command.
    runtime.shutdown_background();
    served
}

async fn listeners(addresses: &[Address]) -> Result<Vec<Listener>, Error> {
    let passed = Listener::inherited();
    let passed = passed.map_err(|source| Error::Listen { address: "systemd's socket".to_owned(), source })?;
    if !passed.is_empty() {
        return Ok(passed);
    }
    let mut listeners = Vec::new();
    for address in addresses {
        let bound = Listener::bind(address).await;
        listeners.push(bound.map_err(|source| Error::Listen { address: address.to_string(), source })?);
    }
    Ok(listeners)
}

/// Listens for Prometheus. A port that is taken, by another server perhaps, keeps none from serving.
async fn metrics(app: &App) -> Option<Listener> {
    let MetricsConfig { listen_address, port, .. } = app.config().metrics;
    if port == 0 {
        return None;
    }
    let address = Address::Tcp((listen_address, port).into());
    let bound = Listener::bind(&address).await;
    let report = |error: &std::io::Error| tracing::warn!("no metrics are served on {address}: {error}");
    bound.inspect_err(report).ok()
}

/// Looks at all instances, and so adopts VMs whose shim was killed while nobody looked, and wakes
/// those that sleep only for a server that is gone.
async fn take_care_of_all(app: App) {
    let looked = app.run(|host| host.list().map(|(instances, _)| drop(host.observe_all(&instances))));
    if let Err(refusal) = looked.await {
        tracing::warn!("the instances could not be looked at: {}", refusal.message());
    }
}

async fn run(
    app: App,
    [router, for_prometheus]: [Router; 2],
    listeners: Vec<Listener>,
    stopping: CancellationToken,
    ready: impl FnOnce(&[String]),
) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    pulling::go_on(&app).await;
    tokio::spawn(take_care_of_all(app.clone()));
    let metrics = metrics(&app).await;
    let for_prometheus = Connections::new(for_prometheus, stopping.clone());
    let connections = Connections::new(router, stopping.clone());
    ready(&listeners.iter().map(Listener::shown).collect::<Vec<_>>());
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]); // nobody may have asked
    let accepted = listeners.into_iter().map(|listener| connections.clone().accept(listener));
    let accepted = accepted.chain(metrics.map(|listener| for_prometheus.accept(listener)));
    let accepting: Vec<_> = accepted.map(tokio::spawn).collect();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    stopping.cancel();
    for accept in accepting {
        let _ = accept.await; // one that panicked accepts no more either
    }
    if tokio::time::timeout(GRACE, connections.end()).await.is_err() {
        tracing::warn!("requests were broken off that did not end in {} s", GRACE.as_secs());
    }
    Ok(())
}
