//! Connections: how many there are at a time, and how long one may take. A caller that sends
//! slowly, or never reads, must not keep others out.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Extension};
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A request's head must have come so long after the connection, or after the request before.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// No connection lasts longer, however many requests it brings.
const LIFE: Duration = Duration::from_secs(300);
/// How long requests that are under way may take when a connection is to end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long, and how much, is read of what a caller still sends when its connection has ended.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 8 << 20;
/// How long no connection is taken where none can be: there are no file handles left, or the like.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves at most `most` connections at a time, until `stop` is cancelled; then ends them. Further
/// connections wait, and where too many wait, the system refuses them.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    most: usize,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)));
    let open = TaskTracker::new();
    while let Some(place) = stop.run_until_cancelled(Arc::clone(&places).acquire_owned()).await {
        match stop.run_until_cancelled(listener.accept()).await {
            None => break,
            Some(Ok((stream, peer))) => {
                let (routes, stop) = (routes.clone(), stop.clone());
                open.spawn(async move {
                    one(stream, peer, routes, stop).await;
                    drop(place);
                });
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "a connection could not be taken");
                let pause = tokio::time::sleep(ACCEPT_PAUSE);
                if stop.run_until_cancelled(pause).await.is_none() {
                    break;
                }
            }
        }
    }
    drop(listener);
    open.close();
    open.wait().await;
}

async fn one(mut stream: TcpStream, peer: SocketAddr, routes: Router, stop: CancellationToken) {
    answered(&mut stream, peer, routes, stop).await;
    // The system resets a connection that is closed with unread bytes, and a reset takes the answer
    // with it: who sends too large a body would never read why it was refused.
    let (mut rest, mut nowhere) = (stream.take(LINGER_BYTES), tokio::io::sink());
    let drained = tokio::io::copy(&mut rest, &mut nowhere);
    if let Ok(ended) = tokio::time::timeout(LINGER, drained).await {
        told(ended);
    }
}

async fn answered(
    stream: &mut TcpStream,
    peer: SocketAddr,
    routes: Router,
    stop: CancellationToken,
) {
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    let service = TowerToHyperService::new(routes.layer(Extension(ConnectInfo(peer))));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => return told(ended),
        () = stop.cancelled() => {}
        () = tokio::time::sleep(LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    match tokio::time::timeout(LAST_WORDS, connection).await {
        Ok(ended) => told(ended),
        Err(_) => tracing::warn!(%peer, "a request was under way when its connection ended"),
    }
}

/// Callers go whenever they like.
fn told<T, E: std::fmt::Display>(ended: Result<T, E>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
