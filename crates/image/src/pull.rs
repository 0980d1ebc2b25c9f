//! Images from a registry.

use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use futures_util::{StreamExt, TryStreamExt};
use hypeman_files::AtPath;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::assemble::{self, Source};
use crate::digest;
use crate::error::{Error, Result};
use crate::import::Manifest;
use crate::progress::Progress;
use crate::spool::Blob;

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
    let auth = credentials(reference.resolve_registry()).map_err(failed)?;
    let explain = |error| failed(explain(&error, reference.resolve_registry()));
    client.auth(reference, &auth, RegistryOperation::Pull).await.map_err(explain)?;
    let (manifest, manifest_digest, config) =
        client.pull_manifest_and_config(reference, &auth).await.map_err(explain)?;
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
            let file = tokio::fs::File::create(&path).await.at(&path)?;
            digest::hex(&layer.digest)?;
            let mut counted = Counted { file, progress };
            client.pull_blob(reference, layer.digest.as_str(), &mut counted).await.map_err(explain)?;
            counted.flush().await.at(&path)?;
            let what = format!("{}: layer {} of {count}", reference.whole(), number + 1);
            Ok::<_, Error>(Blob { what, path, digest: Some(layer.digest.clone()), diff_id: None })
        }
    });
    let layers: Vec<Blob> = futures_util::stream::iter(layers).buffered(AT_ONCE).try_collect().await?;
    assemble::source(Some(manifest_digest), Some(reference.whole()), config.as_bytes(), layers)
}

fn config(registry: &str) -> ClientConfig {
    ClientConfig {
        // As docker: a registry on this very machine may do without TLS.
        protocol: if is_loopback(registry) { ClientProtocol::Http } else { ClientProtocol::Https },
        platform_resolver: Some(Box::new(oci_client::client::linux_amd64_resolver)),
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
fn credentials(registry: &str) -> std::result::Result<RegistryAuth, String> {
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
        Err(error) => Err(format!("docker's credentials for {registry} cannot be read: {error}")),
    }
}

fn explain(error: &OciDistributionError, registry: &str) -> String {
    let chain = |error: &dyn std::error::Error| {
        let causes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string);
        std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
    };
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
            format!("{registry} cannot be reached: {}", chain(error))
        }
        OciDistributionError::RequestError(error) => {
            format!("{registry} broke off: {}; try again", chain(error))
        }
        other => chain(other),
    }
}

/// Tells how far the writing is.
struct Counted<'a> {
    file: tokio::fs::File,
    progress: &'a dyn Progress,
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.file).poll_write(context, bytes);
        if let Poll::Ready(Ok(length)) = &polled {
            self.progress.advance(*length as u64);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.file).poll_shutdown(context)
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
