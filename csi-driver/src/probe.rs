//! Whether the kubelet would be answered: the driver calls itself where the kubelet does. That the socket is its own says
//! nothing of whether anybody still accepts there.

use std::path::Path;

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::transport::Endpoint;

use crate::{
    limits,
    wire::csi::{ProbeRequest, identity_client::IdentityClient},
};

/// Asks again and again, over a new connection each time, and tells what is wrong; `None` while all is well. Ends when
/// nobody listens.
pub async fn keep_asking(socket: &Path, told: watch::Sender<Option<String>>) {
    while !told.is_closed() {
        let answered = timeout(limits::PROBE, ask(socket)).await;
        let trouble = match answered {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some(format!("it gave no answer within {} s", limits::PROBE.as_secs())),
        };
        told.send_replace(
            trouble.map(|why| format!("the driver does not answer on {}: {why}", socket.display())),
        );
        sleep(limits::PROBE_EVERY).await;
    }
}

async fn ask(socket: &Path) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()));
    let channel = async { endpoint?.connect().await }.await.map_err(|error| error.to_string())?;
    let asked = IdentityClient::new(channel).probe(ProbeRequest {}).await;
    asked.map(drop).map_err(|status| status.message().to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{identity::IdentityService, wire::csi::identity_server::IdentityServer};

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_told_and_one_that_is_served_is_fine() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("csi.sock");
        assert!(ask(&path).await.is_err(), "no socket");
        let listener = UnixListener::bind(&path).unwrap();
        // It listens, and nobody accepts: what a comparison of files does not see.
        assert!(timeout(std::time::Duration::from_secs(1), ask(&path)).await.is_err());
        let stop = CancellationToken::new();
        let services = tonic::transport::Server::builder().add_service(IdentityServer::new(IdentityService));
        let served = tokio::spawn(crate::serve(services, listener, stop.clone()));
        ask(&path).await.unwrap();
        let (told, mut trouble) = watch::channel(Some("not asked yet".to_owned()));
        let asking = tokio::spawn(async move { keep_asking(&path, told).await });
        trouble.wait_for(Option::is_none).await.unwrap();
        asking.abort();
        stop.cancel();
        served.await.unwrap().unwrap();
    }
}
