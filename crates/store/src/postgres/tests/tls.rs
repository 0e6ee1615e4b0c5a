//! TLS to the database: what each mode believes.

use super::open;
use super::refusals::refusal;
use crate::Store;
use crate::contract::cluster::Cluster;

type Issuer = rcgen::Issuer<'static, rcgen::KeyPair>;

/// Who signs, and its certificate.
fn authority() -> (Issuer, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = parameters.self_signed(&key).unwrap().pem();
    (rcgen::Issuer::new(parameters, key), pem)
}

/// A certificate of this name, for servers and clients, and its key.
fn signed(by: &Issuer, name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    let common = rcgen::DnType::CommonName;
    parameters.distinguished_name.push(common, name);
    let certificate = parameters.signed_by(&key, by).unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[tokio::test]
async fn each_mode_of_tls_checks_what_libpq_says_it_does() {
    let mut cluster = Cluster::start();
    cluster.create("boats");
    let ((ours, pem), (_, other)) = (authority(), authority());
    let (certificate, key) = signed(&ours, "database.example");
    cluster.file("server.crt", &certificate);
    cluster.file("server.key", &key);
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

#[tokio::test]
async fn a_certificate_of_the_client_is_its_login() {
    let mut cluster = Cluster::start();
    cluster.create("boats");
    let ((ours, pem), (other, _)) = (authority(), authority());
    let (certificate, key) = signed(&ours, "database.example");
    cluster.file("server.crt", &certificate);
    cluster.file("server.key", &key);
    cluster.file("clients.crt", &pem);
    cluster.configure("ssl = on\nssl_ca_file = 'clients.crt'\n");
    cluster.logins("local all all trust\nhostssl all all 127.0.0.1/32 cert\n");
    let port = cluster.listen();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let trusted = file("trusted", &pem);
    let address = |of: Option<(&str, &Issuer, &str)>| {
        let given = of.map_or_else(String::new, |(name, by, user)| {
            let (certificate, key) = signed(by, user);
            let (certificate, key) = (
                file(&format!("{name}.crt"), &certificate),
                file(&format!("{name}.key"), &key),
            );
            format!("&sslcert={certificate}&sslkey={key}")
        });
        format!(
            "postgres://postgres@database.example:{port}/boats?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={trusted}{given}"
        )
    };
    let store = open(address(Some(("good", &ours, "postgres")))).await;
    let used = "SELECT string_agg(DISTINCT client_dn, ' ') FROM pg_stat_ssl
        JOIN pg_stat_activity USING (pid) WHERE application_name = 'boatyard'";
    assert_eq!(cluster.sql("postgres", used), "/CN=postgres");
    store.close().await.unwrap();
    for (of, phrase) in [
        (None, "refused the login"),
        (Some(("name", &ours, "sailor")), "refused the login"),
        (Some(("stranger", &other, "postgres")), "broke off TLS"),
    ] {
        let refused = refusal(address(of)).await;
        assert!(refused.contains(phrase), "{phrase}: {refused}");
    }
    let half = address(None) + &format!("&sslcert={trusted}");
    let refused = refusal(half).await;
    assert!(refused.contains("give both"), "{refused}");
}
