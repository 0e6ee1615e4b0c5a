//! The self-made certificate authority and both ends of TLS.
//!
//! The servers keep the authority's pair in their store; clients trust its certificate and nothing
//! else. Certificates of a server are made anew at every start.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the authority.
    #[error("cannot use the certificate authority's file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Making or reading a certificate.
    #[error("cannot make or read a certificate: {0}")]
    Certificate(String),
}

fn certificate(error: impl std::fmt::Display) -> Error {
    Error::Certificate(error.to_string())
}

/// What the authority's certificate says; the same at every start, so that signing needs only the key.
fn parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
        .distinguished_name
        .push(DnType::CommonName, "Boatyard local authority");
    parameters
}

/// The authority: its certificate in PEM, and the key to sign with.
#[derive(Debug)]
pub struct Authority {
    /// Certificate in PEM: what clients trust.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// An authority's certificate and key, in PEM.
#[derive(Serialize, Deserialize)]
pub struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    /// A fresh one.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(certificate)?;
        let made = parameters().self_signed(&key).map_err(certificate)?;
        Ok(Self {
            certificate: made.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Authority {
    /// Readies a pair, and writes its certificate to `directory/ca.crt` for clients.
    ///
    /// # Errors
    /// When the file cannot be written or the key cannot be read.
    pub fn open(pair: &Pair, directory: &Path) -> Result<Self, Error> {
        let path = directory.join("ca.crt");
        write_whole(&path, 0o644, &pair.certificate)
            .map_err(|source| Error::File { path, source })?;
        let key = KeyPair::from_pem(&pair.key).map_err(certificate)?;
        Ok(Self {
            pem: pair.certificate.clone(),
            issuer: Issuer::new(parameters(), key),
        })
    }

    /// A server's TLS configuration with a fresh certificate for `names` (DNS names and addresses).
    ///
    /// # Errors
    /// When a name is malformed.
    pub fn server_config(&self, names: Vec<String>) -> Result<Arc<ServerConfig>, Error> {
        let key = KeyPair::generate().map_err(certificate)?;
        let parameters = CertificateParams::new(names).map_err(certificate)?;
        let made = parameters
            .signed_by(&key, &self.issuer)
            .map_err(certificate)?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(certificate)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(certificate)?;
        let mut config = builder
            .with_no_client_auth()
            .with_single_cert(vec![made.der().clone()], private)
            .map_err(certificate)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Writes a file that a kill or a power cut leaves absent, as it was, or whole.
fn write_whole(path: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

/// A client's TLS configuration that trusts one authority and nothing else.
///
/// # Errors
/// When `pem` holds no certificate.
pub fn client_config(pem: &str) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(der.map_err(certificate)?).map_err(certificate)?;
    }
    if roots.is_empty() {
        return Err(Error::Certificate(
            "the file holds no certificate".to_owned(),
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(certificate)?;
    Ok(Arc::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}
