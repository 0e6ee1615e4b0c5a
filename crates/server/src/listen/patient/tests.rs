#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::future::poll_fn;
use std::task::Poll::{Pending, Ready};
use tokio::io::AsyncWriteExt;

/// What reaches a socket, by writes; none are taken while it is full.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<(Vec<Vec<u8>>, bool)>>);

impl Log {
    fn writes(&self) -> Vec<usize> {
        self.0.lock().unwrap().0.iter().map(Vec::len).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().0.concat()
    }
}

impl AsyncWrite for Log {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut log = self.0.lock().unwrap();
        if log.1 {
            return Pending;
        }
        log.0.push(bytes.to_vec());
        Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Ready(Ok(()))
    }
}

fn opened() -> (Log, Patient<Log>, Outlet<Log>, Arc<AtomicBool>) {
    let (log, upgraded) = (Log::default(), Arc::new(AtomicBool::new(false)));
    let patience = Duration::from_secs(9);
    let (patient, outlet) = patient(log.clone(), patience, upgraded.clone());
    (log, patient, outlet, upgraded)
}

/// A connection that goes on for ever.
async fn rest(outlet: &Outlet<Log>) {
    let mut connection = std::pin::pin!(std::future::pending::<()>());
    poll_fn(|context| outlet.poll(connection.as_mut(), context)).await;
}

#[tokio::test]
async fn what_is_written_in_one_turn_goes_out_at_once() {
    let (log, mut patient, outlet, _) = opened();
    for number in 0..100_u8 {
        patient.write_all(&[number; 9]).await.unwrap();
        patient.flush().await.unwrap();
    }
    assert!(log.writes().is_empty());
    let sending = tokio::time::timeout(Duration::from_millis(50), rest(&outlet));
    assert!(sending.await.is_err(), "the connection has not ended");
    assert_eq!(log.writes(), [900]);
    let all: Vec<u8> = (0..100).flat_map(|number| [number; 9]).collect();
    assert_eq!(log.bytes(), all);
}

#[tokio::test(start_paused = true)]
async fn in_a_burst_it_waits_for_what_others_are_about_to_write() {
    let (log, mut patient, outlet, _) = opened();
    let mut connection = std::pin::pin!(std::future::pending::<()>());
    let mut turn = async |patient: &mut Patient<Log>, bytes: &[u8]| {
        patient.write_all(bytes).await.unwrap();
        poll_fn(|context| Ready(outlet.poll(connection.as_mut(), context).is_pending())).await
    };
    // Alone, it goes at once.
    assert!(turn(&mut patient, b"first").await);
    assert_eq!(log.writes(), [5]);
    for _ in 0..9 {
        assert!(turn(&mut patient, b"more").await);
    }
    assert_eq!(log.writes(), [5]);
    tokio::task::yield_now().await;
    assert!(turn(&mut patient, b"last").await);
    assert_eq!(log.writes(), [5, 40]);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(turn(&mut patient, b"alone").await);
    assert_eq!(log.writes(), [5, 40, 5]);
}

#[tokio::test]
async fn no_more_is_kept_than_a_bound_and_what_is_large_keeps_its_place() {
    let (log, mut patient, outlet, _) = opened();
    for _ in 0..20 {
        patient.write_all(&[1; LARGE - 1]).await.unwrap();
    }
    assert!(log.writes().iter().all(|size| *size <= KEPT));
    assert!(log.bytes().len() >= 20 * (LARGE - 1) - KEPT);
    patient.write_all(&[2; LARGE]).await.unwrap();
    patient.write_all(&[3]).await.unwrap();
    outlet.end().await;
    let mut all = vec![1; 20 * (LARGE - 1)];
    all.extend(vec![2; LARGE]);
    all.push(3);
    assert!(log.bytes() == all);
}

#[tokio::test]
async fn a_shut_connection_has_sent_everything() {
    let (log, mut patient, _outlet, _) = opened();
    patient.write_all(b"last words").await.unwrap();
    patient.shutdown().await.unwrap();
    assert_eq!(log.bytes(), b"last words");
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_cut_off_after_a_while() {
    let (log, mut patient, outlet, _) = opened();
    log.0.lock().unwrap().1 = true;
    patient.write_all(b"kept").await.unwrap();
    let began = Instant::now();
    rest(&outlet).await;
    assert_eq!(began.elapsed().as_secs(), 9);
    // And at once, when it writes more than is kept.
    assert!(patient.write_all(&[0; 2 * KEPT]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_large_write_that_is_not_taken_ends_the_connection_too() {
    let (log, mut patient, outlet, _) = opened();
    log.0.lock().unwrap().1 = true;
    let began = Instant::now();
    let mut connection = std::pin::pin!(patient.write_all(&[0; LARGE]));
    poll_fn(|context| outlet.poll(connection.as_mut(), context)).await;
    assert_eq!(began.elapsed().as_secs(), 9);
}

#[tokio::test]
async fn of_an_upgraded_connection_nothing_is_kept() {
    let (log, mut patient, outlet, upgraded) = opened();
    patient.write_all(b"before, ").await.unwrap();
    upgraded.store(true, Ordering::Relaxed);
    patient.write_all(b"after").await.unwrap();
    patient.flush().await.unwrap();
    assert_eq!(log.bytes(), b"before, after");
    outlet.end().await;
    assert_eq!(log.writes().len(), 2);
}
