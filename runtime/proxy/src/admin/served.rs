//! The slice that is served, read from the store for whoever asks: the running tables are made for requests and not for
//! people, and a second copy in memory would be there for nobody most of the time.

use std::path::{Path, PathBuf};

use http::StatusCode;
use mesh_bundle::digest::Digest;
use mesh_bundle::slice::Slice;
use mesh_daemon::admin::AdminResponse;
use mesh_daemon::limits::STORE_OBJECT_BYTES_MAX;

use super::query::Query;
use crate::limits;
use crate::subscribe::view::View;

/// Where slices are found.
#[derive(Clone, Debug)]
pub(super) struct ServedSlice {
    view: View,
    store: PathBuf,
}

impl ServedSlice {
    pub(super) fn new(view: View, store: &Path) -> Self {
        Self {
            view,
            store: store.to_owned(),
        }
    }

    /// Answers with what `tell` makes of the slice; on a thread that may wait.
    pub(super) async fn answer(
        self,
        tell: impl FnOnce(&Slice, usize) -> AdminResponse + Send + 'static,
    ) -> AdminResponse {
        let Some(served) = self.view.get().slice else {
            return unavailable("nothing is served: there is no slice");
        };
        let telling = move || match read(&self.store, &served) {
            Ok((slice, bytes)) => tell(&slice, bytes),
            Err(why) => unavailable(&why),
        };
        tokio::task::spawn_blocking(telling)
            .await
            .unwrap_or_else(|error| unavailable(&error.to_string()))
    }
}

fn unavailable(why: &str) -> AdminResponse {
    AdminResponse::text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
}

/// The file has the name of its digest; it may have gone with a generation that came meanwhile.
fn read(store: &Path, served: &str) -> Result<(Slice, usize), String> {
    let name = served.strip_prefix("sha256:").unwrap_or(served);
    let digest = Digest::from_hex(name).map_err(|error| error.to_string())?;
    let path = store.join(digest.to_hex());
    let failed = |why: &dyn std::fmt::Display| format!("read the slice from the store: {why}");
    let length = std::fs::metadata(&path).map_err(|error| failed(&error))?;
    if length.len() > STORE_OBJECT_BYTES_MAX {
        return Err(failed(&"it is too large"));
    }
    let bytes = std::fs::read(&path).map_err(|error| failed(&error))?;
    if Digest::of(&bytes) != digest {
        return Err(failed(&"it is not what is served"));
    }
    let slice = Slice::decode(&bytes).map_err(|refused| failed(&refused))?;
    Ok((slice, bytes.len()))
}

/// `GET /slice`: all that policy says to this proxy, decoded. There are no secrets in a slice: it names them.
pub(super) async fn slice(served: ServedSlice, query: String) -> AdminResponse {
    let callee = match Query::read(&query, &["callee"]) {
        Ok(query) => query.text("callee").map(str::to_owned),
        Err(refused) => return refused,
    };
    let tell = move |slice: &Slice, bytes: usize| match callee {
        Some(name) => {
            let found = slice.callees.iter().find(|callee| callee.service == name);
            match found {
                Some(callee) => AdminResponse::text(StatusCode::OK, format!("{callee:#?}\n")),
                None => AdminResponse::text(
                    StatusCode::NOT_FOUND,
                    format!("{name:?} is no callee of this proxy\n"),
                ),
            }
        }
        None if bytes > limits::SHOWN_SLICE_BYTES_MAX => AdminResponse::text(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "a slice of {bytes} bytes is shown by parts: name a callee, of which it has {}\n",
                slice.callees.len()
            ),
        ),
        None => AdminResponse::text(StatusCode::OK, format!("{slice:#?}\n")),
    };
    served.answer(tell).await
}
