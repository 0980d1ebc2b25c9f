//! Images from a registry.

use std::path::Path;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures_util::{StreamExt, TryStreamExt};
use hypeman_files::AtPath;
use tokio::io::AsyncWriteExt;

use crate::digest;
use crate::error::{Error, Result};
use crate::limits::{MOST_DOCUMENT, Room};
use crate::manifest::{Descriptor, Manifest};
use crate::progress::{Progress, Quiet};
use crate::reference::{DEFAULT_TAG, Reference};
use crate::registry::{Failed, Login, Pace, Registry};
use crate::source::{self, Source};
use crate::spool::{Blob, Span};

/// Layers fetched at once, as docker has it.
const AT_ONCE: usize = 3;

/// Interval for asking whether a pull is cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// Most indexes that lead to a manifest: a hostile one may lead in a circle.
const MOST_INDEXES: usize = 4;

/// A request for an image from a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullRequest {
    /// Reference of the image.
    pub reference: String,
    /// Digest of the image, when its name may mean another one by now.
    pub digest: Option<String>,
    /// Credentials; when absent those that docker would use.
    pub login: Option<Login>,
}

impl PullRequest {
    /// Requests an image by its reference, with the credentials that docker would use.
    #[must_use]
    pub fn of(reference: &str) -> PullRequest {
        PullRequest { reference: reference.to_owned(), ..PullRequest::default() }
    }
}

/// Fetches the manifest, the configuration and the layers into `scratch`, where they may take
/// `most` bytes. The layers are verified when they are read.
pub(crate) fn pull(
    reference: &Reference,
    request: &PullRequest,
    scratch: &Path,
    most: u64,
    progress: &dyn Progress,
) -> Result<Source> {
    let digest = request.digest.as_deref();
    with_registry(reference, request, async |registry| {
        let pull = Pull { registry, reference, digest, scratch, progress };
        tokio::select! {
            fetched = pull.fetch(most) => fetched,
            () = cancelled(progress) => Err(Failed::Own(Error::Cancelled)),
        }
    })
}

/// Asks the registry for the digest of the image for this host. Tries once.
pub(crate) fn resolve(reference: &Reference, request: &PullRequest) -> Result<String> {
    let (digest, scratch, progress) = (request.digest.as_deref(), Path::new(""), &Quiet);
    with_registry(reference, request, async |registry| {
        let pull = Pull { registry, reference, digest, scratch, progress };
        pull.documents().await.map(|(digest, _, _)| digest)
    })
}

/// Does something with the registry of a reference.
fn with_registry<T>(
    reference: &Reference,
    request: &PullRequest,
    work: impl AsyncFnOnce(Registry) -> std::result::Result<T, Failed>,
) -> Result<T> {
    // Fails only when it has been done before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.at(Path::new("a runtime"))?;
    let told = |failure: Failed| match failure {
        Failed::Own(error) => error,
        failure => {
            let (kind, reason) = (failure.kind(), failure.explain(reference.host()));
            Error::Pull { reference: reference.whole(), kind, reason }
        }
    };
    let login = match &request.login {
        Some(login) => login.clone(),
        None => Login::of_docker(reference.host()).map_err(|reason| told(Failed::Refused(reason)))?,
    };
    let registry = Registry::new(reference, login, Pace::default()).map_err(told)?;
    runtime.block_on(work(registry)).map_err(told)
}

/// Waits until the pull is cancelled.
async fn cancelled(progress: &dyn Progress) {
    while !progress.is_cancelled() {
        tokio::time::sleep(LOOK).await;
    }
}

/// One pull.
struct Pull<'a> {
    registry: Registry,
    reference: &'a Reference,
    /// Digest of the image, when its name may mean another one by now.
    digest: Option<&'a str>,
    scratch: &'a Path,
    progress: &'a dyn Progress,
}

impl Pull<'_> {
    async fn fetch(&self, most: u64) -> std::result::Result<Source, Failed> {
        let (digest, manifest, config) = self.again(|| self.documents()).await?;
        let what = self.reference.whole();
        let total = manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        Room::on(self.scratch, most).and_then(|mut room| room.take(&what, total)).map_err(Failed::Own)?;
        self.progress.start(&format!("pulling {what}"), Some(total));
        let count = manifest.layers.len();
        let layers = manifest.layers.iter().enumerate().map(async |(number, layer)| {
            let path = self.scratch.join(format!("layer-{number}"));
            digest::hex(&layer.digest).map_err(Failed::Own)?;
            self.again(|| self.layer(layer, &path)).await?;
            let what = format!("{what}: layer {} of {count}", number + 1);
            let digest = Some(layer.digest.clone());
            Ok::<_, Failed>(Blob { what, at: Span::whole(path), digest, diff_id: None })
        });
        let layers: Vec<Blob> = futures_util::stream::iter(layers).buffered(AT_ONCE).try_collect().await?;
        source::describe(Some(digest), vec![what], &config, layers).map_err(Failed::Own)
    }

    /// Does something that may fail by chance, as docker: five times more, and longer apart each
    /// time, or as long as the registry says. One that limits its rate is out of sight by then.
    async fn again<T, F: Future<Output = std::result::Result<T, Failed>>>(
        &self,
        work: impl FnMut() -> F,
    ) -> std::result::Result<T, Failed> {
        let waits = ExponentialBuilder::new().with_min_delay(Duration::from_secs(1)).with_max_times(5);
        let told = |failure: &Failed, wait: Duration| {
            let why = failure.explain(self.reference.host());
            self.progress.warn(&format!("{why}; trying again in {} s", wait.as_secs()));
        };
        let longest = |failure: &Failed, wait: Option<Duration>| {
            wait.map(|wait| wait.max(failure.wait().unwrap_or_default()))
        };
        work.retry(waits).when(Failed::is_passing).adjust(longest).notify(told).await
    }

    /// The manifest for this host with its digest, and the configuration.
    async fn documents(&self) -> std::result::Result<(String, Manifest, Vec<u8>), Failed> {
        let mut promised = self.digest.or(self.reference.digest()).map(str::to_owned);
        let mut name =
            promised.clone().unwrap_or_else(|| self.reference.tag().unwrap_or(DEFAULT_TAG).to_owned());
        for _ in 0..MOST_INDEXES {
            let text = self.registry.manifest(&name).await?;
            let digest = digest::of(&text);
            if let Some(promised) = &promised {
                digest::verify("the manifest", promised, &digest).map_err(Failed::Own)?;
            }
            let manifest: Manifest = serde_json::from_slice(&text)
                .map_err(|error| Failed::Refused(format!("its manifest: {error}")))?;
            if let Some(config) = manifest.config.clone() {
                let config = self.config(&config).await?;
                return Ok((digest, manifest, config));
            }
            let none = || {
                Failed::Refused("it has no image for linux/amd64 that is not of docker's schema 1".to_owned())
            };
            let next = manifest.choose().ok_or_else(none)?.digest.clone();
            digest::hex(&next).map_err(Failed::Own)?;
            name.clone_from(&next);
            promised = Some(next);
        }
        Err(Failed::Refused("its indexes lead to no image".to_owned()))
    }

    async fn config(&self, config: &Descriptor) -> std::result::Result<Vec<u8>, Failed> {
        digest::hex(&config.digest).map_err(Failed::Own)?;
        let text = self.registry.document(&config.digest, config.size.min(MOST_DOCUMENT)).await?;
        digest::verify("the configuration", &config.digest, &digest::of(&text)).map_err(Failed::Own)?;
        Ok(text)
    }

    /// Fetches a layer into a file; goes on where an earlier try has left off, if the registry can.
    /// It ends where its descriptor says.
    async fn layer(&self, layer: &Descriptor, path: &Path) -> std::result::Result<(), Failed> {
        let disk = |source| Failed::Own(hypeman_files::Error::Io { path: path.to_owned(), source }.into());
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.create(true).append(true).open(path).await.map_err(disk)?;
        let had = file.metadata().await.map_err(disk)?.len();
        let (mut response, begin) = self.registry.blob(&layer.digest, had).await?;
        if begin < had {
            file.set_len(0).await.map_err(disk)?;
        }
        let mut left = layer.size.saturating_sub(begin);
        let mut pace = self.registry.pace();
        while let Some(bytes) = self.registry.chunk(&mut response, &mut pace).await? {
            let longer =
                || Failed::Refused(format!("layer {} is longer than its {} bytes", layer.digest, layer.size));
            left = left.checked_sub(bytes.len() as u64).ok_or_else(longer)?;
            file.write_all(&bytes).await.map_err(disk)?;
            self.progress.advance(bytes.len() as u64);
        }
        file.flush().await.map_err(disk)?;
        if left > 0 {
            return Err(Failed::BrokenOff(format!(
                "layer {} ends before its {} bytes",
                layer.digest, layer.size
            )));
        }
        Ok(())
    }
}
