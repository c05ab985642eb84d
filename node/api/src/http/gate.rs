//! From a connection that was accepted to its requests: who it comes from, whether it may stay, and how long.

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
};

use flotilla_base::RequestId;
use http::{Request, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    Answer, Entrance,
    connection::{Activity, Overdue, Reporting},
    forwarded, listener,
    live::Live,
    observe::{Chain, Observation},
    proxy_protocol,
    respond::{finish, respond, restore_host},
    server::{Shared, Stage, reached},
};

/// What is known of a connection.
#[derive(Clone, Copy)]
pub(super) struct Peer {
    /// The other end, or whom a trusted proxy's header named; canonical.
    pub(super) client: IpAddr,
    pub(super) local: SocketAddr,
    pub(super) tls: bool,
    pub(super) listener: Entrance,
}

/// Serves a connection to its end.
pub(super) async fn connection<A: Answer>(
    shared: &Arc<Shared<A>>,
    mut stream: TcpStream,
    from: SocketAddr,
    listener: Entrance,
) {
    let Ok(local) = stream.local_addr() else { return };
    if let Err(error) = listener::tune(&stream) {
        tracing::debug!(%error, client = %from, "a client left while its connection was set up");
        return;
    }
    let live = shared.live.load();
    let metrics = &shared.observer.metrics;
    let Some(client) = client(shared, &live, &mut stream, from.ip().to_canonical(), listener).await else {
        return metrics.refuse("proxy_protocol");
    };
    let counted = listener != Entrance::Admin && !client.is_loopback() && !live.trusts(client);
    let place = counted.then(|| shared.places.take(client, live.max_connections_per_client));
    if let Some(None) = place {
        tracing::debug!(%client, "a client has too many connections");
        return metrics.refuse("client_connections");
    }
    let tls = shared.tls.as_ref().filter(|_| listener != Entrance::Admin);
    let peer = Peer { client, local, tls: tls.is_some(), listener };
    let Some(tls) = tls else { return serve(shared, &live, stream, peer, false).await };
    match tokio::time::timeout(live.patience.head, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            // Without its name in the handshake nobody speaks HTTP/2 to us.
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            serve(shared, &live, stream, peer, is_h2).await;
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, %client, "tls handshake failed");
            metrics.refuse("tls_handshake");
        }
        Err(_) => {
            tracing::debug!(%client, "tls handshake took too long");
            metrics.refuse("tls_handshake");
        }
    }
}

/// Whose connection it is; `None` when it had to say so and did not.
async fn client<A>(
    shared: &Shared<A>,
    live: &Live,
    stream: &mut TcpStream,
    peer: IpAddr,
    listener: Entrance,
) -> Option<IpAddr> {
    if !shared.proxy_protocol || listener == Entrance::Admin {
        return Some(peer);
    }
    if !live.trusts(peer) {
        tracing::debug!(%peer, "a connection past the proxies is refused: not in http.trusted_proxies");
        return None;
    }
    match tokio::time::timeout(live.patience.head, proxy_protocol::read(stream)).await {
        Ok(Ok(source)) => Some(source.unwrap_or(peer)),
        Ok(Err(error)) => {
            tracing::debug!(error = %Chain(&error), %peer, "a proxy's connection is refused");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "a proxy sent no PROXY header in time");
            None
        }
    }
}

async fn serve<A: Answer, S>(shared: &Arc<Shared<A>>, live: &Live, stream: S, peer: Peer, is_h2: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new();
    let io = TokioIo::new(Reporting::new(stream, activity.clone()));
    let service = service_fn(|mut request: Request<Incoming>| {
        let multiplexed = request.version() == Version::HTTP_2;
        let (shared, in_flight) = (shared.clone(), activity.request(multiplexed));
        async move {
            let live = shared.live.load();
            restore_host(&mut request);
            let sender = forwarded::sender(request.headers(), peer.client, |address| live.trusts(address));
            let (head, body) = request.into_parts();
            let id = RequestId(shared.host.entropy.u128());
            let observation = Observation::new(shared.observer.clone(), in_flight, id, sender.client, &head);
            let request = Request::from_parts(head, body);
            let response = respond(&shared, &live, peer, sender, &observation, request).await;
            Ok::<_, std::convert::Infallible>(finish(
                response,
                id,
                multiplexed,
                sender.tls.unwrap_or(peer.tls),
                observation,
            ))
        }
    });
    let protocol = if is_h2 { &shared.http2 } else { &shared.http1 };
    let mut connection = pin!(protocol.serve_connection(io, service));
    let mut stage = shared.stage.clone();
    let mut overdue = pin!(activity.overdue(live.patience));
    let mut finishing = pin!(reached(&mut stage, Stage::Finishing));
    let mut told = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, client = %peer.client, "connection ended early");
                    if let Some(reason) = unreadable(&*error) {
                        shared.observer.metrics.refuse(reason);
                    }
                }
                return;
            }
            why = overdue.as_mut() => return match why {
                Overdue::Idle => {}
                Overdue::SlowHead => shared.observer.metrics.refuse("slow_head"),
                Overdue::Stalled => shared.observer.metrics.refuse("write_stall"),
            },
            () = finishing.as_mut(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// What hyper has answered by itself, before there was a request.
fn unreadable(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let error = error.downcast_ref::<hyper::Error>()?;
    match error {
        _ if error.is_parse_too_large() => Some("head_too_large"),
        _ if error.is_parse() => Some("head_malformed"),
        _ => None,
    }
}
