//! What keeps a server from its database, each in a sentence that says what to do.

use super::super::*;
use super::load::boat;
use super::open;
use crate::contract::cluster::Cluster;

pub(super) async fn refusal(address: String) -> String {
    let refused = PostgresStore::open(Options::new(address)).await;
    let refused = refused.expect_err("refused");
    assert!(matches!(refused, Error::Unavailable { .. }));
    refused.to_string()
}

#[tokio::test]
async fn who_may_not_log_in_is_told_why() {
    let cluster = Cluster::start();
    cluster.create("boats");
    cluster.sql(
        "postgres",
        "CREATE ROLE sailor LOGIN PASSWORD 'right'; CREATE ROLE pirate LOGIN",
    );
    cluster.logins("local all postgres trust\nlocal boats sailor scram-sha-256\n");
    cluster.reload();
    let address = |login: &str, database: &str| {
        let host = cluster.host();
        format!("postgres://{login}@/{database}?host={}", host.display())
    };
    for (login, database, phrase) in [
        ("sailor:wrong", "boats", "refused the password"),
        ("sailor", "boats", "login failed"),
        ("pirate", "boats", "refused the login"),
        ("postgres", "cranes", "no such database"),
        ("sailor:right", "boats", "lacks a permission"),
    ] {
        let refused = refusal(address(login, database)).await;
        assert!(refused.contains(phrase), "{login}: {refused}");
        assert!(!refused.contains("right") && !refused.contains("wrong"));
    }
    cluster.sql("postgres", "ALTER DATABASE boats OWNER TO sailor");
    let store = open(address("sailor:right", "boats")).await;
    let made = store.create(boat("a"), Bytes::new()).await.unwrap();
    // Taken away later: the write is refused, and works again once given back.
    let others = "ALTER TABLE boatyard.versions OWNER TO";
    cluster.sql("boats", &format!("{others} postgres"));
    let refused = store.create(boat("b"), Bytes::new()).await.unwrap_err();
    assert!(
        refused.to_string().contains("lacks a permission"),
        "{refused}"
    );
    cluster.sql("boats", &format!("{others} sailor"));
    store.create(boat("b"), Bytes::new()).await.unwrap();
    assert_eq!(store.get(boat("a")).await.unwrap(), Some(made));
}

#[tokio::test]
async fn a_newer_schema_and_a_foreign_database_are_refused() {
    let cluster = Cluster::start();
    for database in ["newer", "foreign", "shared", "taken"] {
        cluster.create(database);
    }
    open(cluster.address("newer")).await.close().await.unwrap();
    cluster.sql("newer", "UPDATE boatyard.header SET schema = 99");
    let refused = refusal(cluster.address("newer")).await;
    assert!(refused.contains("has schema 99"), "{refused}");
    cluster.sql("foreign", "CREATE TABLE invoices (number int)");
    let refused = refusal(cluster.address("foreign")).await;
    assert!(refused.contains("another program"), "{refused}");
    let tables = "SELECT count(*) FROM pg_namespace WHERE nspname = 'boatyard'";
    assert_eq!(cluster.sql("foreign", tables), "0");
    // On purpose it works.
    cluster.sql(
        "shared",
        "CREATE TABLE invoices (number int); CREATE SCHEMA boatyard",
    );
    open(cluster.address("shared")).await;
    cluster.sql(
        "taken",
        "CREATE SCHEMA boatyard; CREATE TABLE boatyard.x (n int)",
    );
    let refused = refusal(cluster.address("taken")).await;
    assert!(refused.contains("another program"), "{refused}");
}

#[tokio::test]
async fn a_running_server_notices_that_a_newer_one_migrated() {
    let cluster = Cluster::start();
    cluster.create("boats");
    let store = open(cluster.address("boats")).await;
    cluster.sql("boats", "UPDATE boatyard.header SET schema = 99");
    cluster.sql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'boatyard'",
    );
    let refused = store.create(boat("a"), Bytes::new()).await.unwrap_err();
    assert!(
        refused.to_string().contains("upgrade this server"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_standby_is_refused_and_a_damaged_row_is_named() {
    let cluster = Cluster::start();
    cluster.create("boats");
    let store = open(cluster.address("boats")).await;
    store
        .create(boat("a"), Bytes::from_static(b"{}"))
        .await
        .unwrap();
    let standby = cluster.standby("second");
    let refused = refusal(standby.address("boats")).await;
    assert!(refused.contains("it is read-only"), "{refused}");
    store.close().await.unwrap();
    cluster.sql("boats", "UPDATE boatyard.versions SET data = '[]'");
    let refused = refusal(cluster.address("boats")).await;
    assert!(refused.contains("damaged"), "{refused}");
}

#[tokio::test]
async fn what_is_not_there_or_no_address_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = format!("postgres://x@/x?host={}", folder.path().display());
    let refused = refusal(nowhere).await;
    assert!(refused.contains("cannot be reached"), "{refused}");
    let refused = refusal("mysql://x".to_owned()).await;
    assert!(refused.contains("is no URL"), "{refused}");
    let refused = refusal("postgres://x@h/x?sslmode=perhaps".to_owned()).await;
    assert!(refused.contains("sslmode"), "{refused}");
    let refused =
        refusal("postgres://x:secret@h/x?sslrootcert=/none&sslmode=verify-full".to_owned());
    let refused = refused.await;
    assert!(refused.contains("/none cannot be read"), "{refused}");
    assert!(!refused.contains("secret"));
}
