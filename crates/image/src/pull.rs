//! Images from a registry.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use docker_credential::{CredentialRetrievalError, DockerCredential};
use futures_util::{StreamExt, TryStreamExt};
use hypeman_files::{AtPath, with_causes};
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use oci_client::manifest::ImageIndexEntry;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use tokio::io::AsyncWriteExt;

use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::progress::Progress;
use crate::source::{self, Source};
use crate::spool::{Blob, Span};
use crate::{digest, platform};

/// Layers fetched at once, as docker has it.
const AT_ONCE: usize = 3;
/// How long a registry may say nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// Fetches the manifest, the configuration and the layers into `scratch`. The layers are verified when they are read.
pub(crate) fn pull(reference: &Reference, scratch: &Path, progress: &dyn Progress) -> Result<Source> {
    // Fails only when it has been done before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().at(scratch)?;
    runtime.block_on(fetch(reference, scratch, progress))
}

async fn fetch(reference: &Reference, scratch: &Path, progress: &dyn Progress) -> Result<Source> {
    let failed = |reason: String| Error::Pull { reference: reference.whole(), reason };
    let client = Client::new(config(reference.resolve_registry()));
    let auth = credentials(reference)?;
    let explain = |error| failed(explain(&error, reference.resolve_registry()));
    let documents = async || {
        client.auth(reference, &auth, RegistryOperation::Pull).await?;
        client.pull_manifest_and_config(reference, &auth).await
    };
    let documents = documents
        .retry(retries())
        .when(is_passing)
        .notify(|error, wait| told(progress, reference, error, wait));
    let (manifest, manifest_digest, config) = documents.await.map_err(explain)?;
    let text = serde_json::to_vec(&manifest).map_err(|error| failed(error.to_string()))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| failed(format!("its manifest: {error}")))?;

    let total = manifest.layers.iter().map(|layer| layer.size).sum();
    progress.start(&format!("pulling {}", reference.whole()), Some(total));
    let count = manifest.layers.len();
    let layers = manifest.layers.iter().enumerate().map(|(number, layer)| {
        let client = &client;
        async move {
            let path = scratch.join(format!("layer-{number}"));
            digest::hex(&layer.digest)?;
            let fetch = async || fetch_layer(client, reference, &layer.digest, &path, progress).await;
            let fetch = fetch
                .retry(retries())
                .when(|error| matches!(error, Failed::Registry(error) if is_passing(error)));
            let fetch = fetch.notify(|error, wait| {
                if let Failed::Registry(error) = error {
                    told(progress, reference, error, wait)
                }
            });
            fetch.await.map_err(|error| match error {
                Failed::Registry(error) => explain(error),
                Failed::Disk(error) => error,
            })?;
            let what = format!("{}: layer {} of {count}", reference.whole(), number + 1);
            Ok::<_, Error>(Blob {
                what,
                at: Span::whole(path),
                digest: Some(layer.digest.clone()),
                diff_id: None,
            })
        }
    });
    let layers: Vec<Blob> = futures_util::stream::iter(layers).buffered(AT_ONCE).try_collect().await?;
    source::describe(Some(manifest_digest), vec![reference.whole()], config.as_bytes(), layers)
}

/// Why a layer was not fetched.
enum Failed {
    Registry(OciDistributionError),
    Disk(Error),
}

/// Fetches a layer into a file; goes on where an earlier try has left off, if the registry can.
async fn fetch_layer(
    client: &Client,
    reference: &Reference,
    digest: &str,
    path: &Path,
    progress: &dyn Progress,
) -> std::result::Result<(), Failed> {
    let disk = |source| Failed::Disk(hypeman_files::Error::Io { path: path.to_owned(), source }.into());
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.create(true).append(true).open(path).await.map_err(disk)?;
    let had = file.metadata().await.map_err(disk)?.len();
    let response = match had {
        0 => client.pull_blob_stream(reference, digest).await.map(BlobResponse::Full),
        _ => client.pull_blob_stream_partial(reference, digest, had, None).await,
    };
    let mut stream = match response.map_err(Failed::Registry)? {
        BlobResponse::Partial(rest) => rest,
        BlobResponse::Full(whole) => {
            file.set_len(0).await.map_err(disk)?;
            whole
        }
    };
    // A layer that is not what was promised is told so in an error of the stream, and is no better the next time.
    let broken = |error: std::io::Error| match error.downcast::<DigestError>() {
        Ok(wrong) => Failed::Registry(wrong.into()),
        Err(error) => Failed::Registry(error.into()),
    };
    while let Some(bytes) = stream.try_next().await.map_err(broken)? {
        file.write_all(&bytes).await.map_err(disk)?;
        progress.advance(bytes.len() as u64);
    }
    file.flush().await.map_err(disk)
}

/// As docker: five times more, and longer apart each time. A registry that limits its rate is out of sight by then.
fn retries() -> ExponentialBuilder {
    ExponentialBuilder::new().with_min_delay(Duration::from_secs(1)).with_max_times(5)
}

/// Whether an error may be gone the next time: a registry that is busy or limits its rate, or a connection that broke. One
/// that cannot be made at all is most often a wrong address.
fn is_passing(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::ServerError { code, .. } => matches!(code, 408 | 429 | 500 | 502 | 503 | 504),
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.iter().any(|error| error.code == OciErrorCode::Toomanyrequests)
        }
        OciDistributionError::RequestError(error) => !error.is_connect() && !error.is_builder(),
        // The stream of a layer tells so of a connection that broke; what does not match its digest is another error.
        OciDistributionError::IoError(_) => true,
        _ => false,
    }
}

fn told(progress: &dyn Progress, reference: &Reference, error: &OciDistributionError, wait: Duration) {
    let why = explain(error, reference.resolve_registry());
    progress.warn(&format!("{why}; trying again in {} s", wait.as_secs()));
}

/// The manifest in an index that fits best.
fn choose(manifests: &[ImageIndexEntry]) -> Option<String> {
    let rank = |entry: &ImageIndexEntry| {
        let platform = entry.platform.as_ref()?;
        platform::rank(
            &platform.os.to_string(),
            &platform.architecture.to_string(),
            platform.variant.as_deref(),
        )
    };
    let ranked = manifests.iter().filter_map(|entry| Some((rank(entry)?, entry)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry.digest.clone())
}

fn config(registry: &str) -> ClientConfig {
    ClientConfig {
        // As docker: a registry on this very machine may do without TLS.
        protocol: if is_loopback(registry) { ClientProtocol::Http } else { ClientProtocol::Https },
        platform_resolver: Some(Box::new(choose)),
        read_timeout: Some(SILENCE),
        connect_timeout: Some(SILENCE / 4),
        user_agent: concat!("hypeman/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    }
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What docker would log in with.
fn credentials(reference: &Reference) -> Result<RegistryAuth> {
    let registry = reference.resolve_registry();
    // docker keeps those of Docker Hub under the address of its first version.
    let server = if registry == "index.docker.io" { "https://index.docker.io/v1/" } else { registry };
    match docker_credential::get_credential(server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(RegistryAuth::Basic(user, password)),
        Ok(DockerCredential::IdentityToken(token)) => Ok(RegistryAuth::Bearer(token)),
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::ConfigReadError
            | CredentialRetrievalError::NoCredentialConfigured,
        ) => Ok(RegistryAuth::Anonymous),
        // A helper that has nothing for this registry (`credentials not found in native keychain`, docker-credential-helpers).
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
            if stdout.contains("not found") || stderr.contains("not found") =>
        {
            Ok(RegistryAuth::Anonymous)
        }
        Err(error) => Err(Error::Pull {
            reference: reference.whole(),
            reason: format!("docker's credentials for {registry} cannot be read: {error}"),
        }),
    }
}

fn explain(error: &OciDistributionError, registry: &str) -> String {
    let is_unknown = |code: &OciErrorCode| {
        matches!(code, OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound)
    };
    match error {
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
            format!("{registry} wants other credentials; log in with `docker login {registry}`")
        }
        OciDistributionError::ImageManifestNotFoundError(_) => {
            format!("{registry} has no such image; look at its name and tag")
        }
        OciDistributionError::RegistryError { envelope, .. }
            if envelope.errors.iter().any(|error| is_unknown(&error.code)) =>
        {
            format!("{registry} has no such image; look at its name and tag")
        }
        OciDistributionError::RequestError(error) if error.is_connect() => {
            format!("{registry} cannot be reached: {}", with_causes(error))
        }
        OciDistributionError::RequestError(error) => {
            format!("{registry} broke off: {}", with_causes(error))
        }
        OciDistributionError::ServerError { code, message, .. } => {
            format!("{registry} answers {code}: {message}")
        }
        other => with_causes(other),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_this_machine_may_do_without_tls() {
        for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            assert!(super::is_loopback(registry), "{registry}");
        }
        for registry in ["docker.io", "127.0.0.1.example.com", "10.0.0.1:5000"] {
            assert!(!super::is_loopback(registry), "{registry}");
        }
    }
}
