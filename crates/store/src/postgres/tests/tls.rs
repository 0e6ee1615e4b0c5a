//! TLS to the database: what each mode believes.

use super::open;
use super::refusals::refusal;
use crate::Store;
use crate::contract::cluster::Cluster;

#[tokio::test]
async fn each_mode_of_tls_checks_what_libpq_says_it_does() {
    let mut cluster = Cluster::start();
    cluster.create("boats");
    let authority = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).unwrap().pem();
        (rcgen::Issuer::new(parameters, key), pem)
    };
    let ((ours, pem), (_, other)) = (authority(), authority());
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(["database.example".to_owned()]).unwrap();
    let certificate = parameters.signed_by(&key, &ours).unwrap();
    cluster.file("server.crt", &certificate.pem());
    cluster.file("server.key", &key.serialize_pem());
    cluster.configure("ssl = on\n");
    cluster.logins("local all all trust\nhostssl all all 127.0.0.1/32 trust\n");
    let port = cluster.listen();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let (trusted, distrusted) = (file("trusted", &pem), file("distrusted", &other));
    let address = |host: &str, options: &str| {
        format!("postgres://postgres@{host}:{port}/boats?hostaddr=127.0.0.1&{options}")
    };
    let good = [
        (
            "database.example",
            format!("sslmode=verify-full&sslrootcert={trusted}"),
        ),
        (
            "another.example",
            format!("sslmode=verify-ca&sslrootcert={trusted}"),
        ),
        (
            "another.example",
            format!("sslmode=require&sslrootcert={trusted}"),
        ),
        ("another.example", "sslmode=require".to_owned()),
        ("another.example", "sslmode=prefer".to_owned()),
    ];
    for (host, options) in good {
        let store = open(address(host, &options)).await;
        let used = "SELECT count(*) > 0 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE ssl AND application_name = 'boatyard'";
        assert_eq!(cluster.sql("postgres", used), "t", "{options}");
        store.close().await.unwrap();
    }
    let refused_certificate = "certificate was refused";
    let bad = [
        (
            format!("sslmode=verify-full&sslrootcert={trusted}"),
            refused_certificate,
        ),
        (
            format!("sslmode=verify-ca&sslrootcert={distrusted}"),
            refused_certificate,
        ),
        (
            format!("sslmode=require&sslrootcert={distrusted}"),
            refused_certificate,
        ),
        ("sslmode=verify-full".to_owned(), refused_certificate),
        ("sslmode=disable".to_owned(), "refused the login"),
    ];
    for (options, phrase) in bad {
        let refused = refusal(address("another.example", &options)).await;
        assert!(refused.contains(phrase), "{options}: {refused}");
    }
    // No TLS there.
    cluster.configure("ssl = off\n");
    cluster.logins("local all all trust\nhost all all 127.0.0.1/32 trust\n");
    cluster.reload();
    let refused = refusal(address("another.example", "sslmode=require")).await;
    assert!(refused.contains("offers no TLS"), "{refused}");
    open(address("another.example", "sslmode=prefer")).await;
}
