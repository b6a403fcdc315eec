//! Attestation by the kernel: a proxy of this machine asks at a Unix socket and gets a join file for whom the user that it
//! runs as stands for. From there on it joins like any other.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::admin::AdminSocket;
use mesh_daemon::drain::DrainWatcher;
use mesh_daemon::join_file::REFUSED;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::limits;
use crate::mesh::Mesh;
use crate::output::chain;

/// Who each user is.
pub(crate) type Users = BTreeMap<u32, SpiffeId>;

/// Makes the socket. Everybody of this machine may ask: who it is, the kernel says.
pub(crate) fn bind(path: &Path) -> std::io::Result<AdminSocket> {
    let socket = AdminSocket::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

/// Answers until it drains. One after the other: an answer is small, and a client that takes none is left.
pub(crate) async fn serve(
    socket: AdminSocket,
    users: Users,
    mesh: Arc<Mesh>,
    mut drain: DrainWatcher,
) {
    let mut asked = BTreeMap::new();
    loop {
        let accepted = tokio::select! {
            () = drain.draining() => return,
            accepted = socket.accept() => accepted.and_then(UnixStream::from_std),
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept at the socket for local proxies");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let answering = answer(stream, &users, &mut asked, &mesh);
        if tokio::time::timeout(limits::ATTEST_TIMEOUT, answering)
            .await
            .is_err()
        {
            tracing::debug!("a local proxy took no answer");
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    users: &Users,
    asked: &mut BTreeMap<u32, Asked>,
    mesh: &Arc<Mesh>,
) {
    let answer = match stream.peer_cred() {
        Ok(peer) => match users.get(&peer.uid()) {
            Some(identity) if asked.entry(peer.uid()).or_default().may_ask(Instant::now()) => {
                let who = format!(
                    "user {} process {}",
                    peer.uid(),
                    peer.pid().unwrap_or_default()
                );
                join_file(mesh, identity.clone(), who).await
            }
            Some(_often) => Err("this user asks too often".to_owned()),
            None => {
                mesh.events.local_refused(peer.uid());
                Err(format!("user {} stands for nobody here", peer.uid()))
            }
        },
        Err(error) => Err(error.to_string()),
    };
    let bytes = answer.unwrap_or_else(|why| format!("{REFUSED}{why}").into_bytes());
    // A client that is gone needs no answer.
    drop(stream.write_all(&bytes).await);
    drop(stream.shutdown().await);
}

async fn join_file(mesh: &Arc<Mesh>, identity: SpiffeId, who: String) -> Result<Vec<u8>, String> {
    let mesh = Arc::clone(mesh);
    let made = tokio::task::spawn_blocking(move || {
        let made = mesh.join_file(&identity, limits::LOCAL_TOKEN_LIFE);
        match &made {
            Ok(join) => mesh.events.local_attested(&identity, &who, &join.token_id),
            Err(error) => {
                tracing::warn!(%identity, who, error = chain(error), "no join file for a local proxy");
            }
        }
        made.map(|join| join.to_json())
            .map_err(|error| error.to_string())
    });
    made.await
        .unwrap_or_else(|_ended| Err("the distributor is ending".to_owned()))
}

/// How often a user has asked: some at once, then one a second, so that nobody fills the list of tokens.
#[derive(Debug, Default)]
struct Asked {
    count: u32,
    last: Option<Instant>,
}

impl Asked {
    fn may_ask(&mut self, now: Instant) -> bool {
        let passed = self
            .last
            .map_or(0, |last| now.saturating_duration_since(last).as_secs());
        if passed > 0 || self.last.is_none() {
            self.count = self
                .count
                .saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
            self.last = Some(now);
        }
        if self.count >= limits::LOCAL_TOKENS_AT_ONCE {
            return false;
        }
        self.count += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_asks_some_times_at_once_and_then_once_a_second() {
        let mut asked = Asked::default();
        let now = Instant::now();
        let at_once = (0..100).filter(|_| asked.may_ask(now)).count();
        assert_eq!(at_once, 5);
        let later = now + Duration::from_secs(2);
        assert_eq!((0..100).filter(|_| asked.may_ask(later)).count(), 2);
    }
}
