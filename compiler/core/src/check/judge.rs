//! Whether proxies would take the slices of a mesh. What several of them are told alike of a callee is made and judged
//! once; where a part is refused, the whole slice is judged, which alone says why.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mesh_bundle::slice::{self, CalleeListener, Slice};
use mesh_bundle::{feature, limits};
use mesh_engine::{CalleeTable, Snapshot};
use mesh_syntax::{Diagnostic, code};
use rayon::prelude::*;

use crate::emit::{self, Workload};
use crate::linked::{Edge, LinkedMesh, ServiceId};

/// More than a callee needs in a slice beside its own bytes: number and length of the field.
const FIELD_BYTES_MAX: usize = 16;

/// What judging a slice brought to light.
#[derive(Debug)]
pub(super) struct Judged {
    /// What it requires of a proxy, ascending.
    pub(super) required_features: Vec<String>,
    /// Why no proxy takes it, if none does.
    pub(super) refusal: Option<Diagnostic>,
}

/// What a proxy is told of a callee.
#[derive(Debug)]
struct Told {
    required_features: Vec<&'static str>,
    /// None: a proxy refuses it.
    bytes: Option<usize>,
}

/// What is told about callees, by the caller and the callee of an edge.
type Callees = BTreeMap<(ServiceId, ServiceId), Arc<Told>>;

/// Judges the slices of workloads, in their order.
pub(super) fn judge(mesh: &LinkedMesh, workloads: &[Workload<'_>]) -> Vec<Judged> {
    let callees = callees(mesh, workloads);
    workloads
        .par_iter()
        .map(|workload| judge_one(mesh, workload, &callees))
        .collect()
}

fn judge_one(mesh: &LinkedMesh, workload: &Workload<'_>, callees: &Callees) -> Judged {
    let mut frame = workload.frame(mesh);
    let edges = workload.callees(mesh);
    let told: Vec<_> = edges
        .map(|edge| callees.get(&(edge.caller, edge.callee)))
        .collect();
    let mut required: BTreeSet<&str> = frame.required_features.iter().map(String::as_str).collect();
    for told in told.iter().flatten() {
        required.extend(&told.required_features);
    }
    frame.required_features = required.into_iter().map(str::to_owned).collect();
    let refusal = if is_taken(&frame, &told) {
        None
    } else {
        refusal(mesh, &workload.slice(mesh))
    };
    Judged {
        required_features: frame.required_features,
        refusal,
    }
}

/// Whether a proxy takes a slice of these parts. Callees of a mesh have names of their own, and a slice asks nothing of
/// one that depends on another part.
fn is_taken(frame: &Slice, callees: &[Option<&Arc<Told>>]) -> bool {
    let bytes = callees.iter().map(|told| told.as_ref()?.bytes);
    let bytes = bytes.map(|bytes| Some(bytes? + FIELD_BYTES_MAX));
    let (Some(of_callees), Ok(recoded)) = (bytes.sum::<Option<usize>>(), recode(frame)) else {
        return false;
    };
    callees.len() <= limits::CALLEES_MAX
        && recoded.bytes + of_callees <= limits::SLICE_BYTES_MAX
        && Snapshot::build(&recoded.value).is_ok()
}

/// A slice that no proxy would take is found here, not in the fleet: bounds of the format and of the
/// engine that no keyword enforces by itself.
pub(super) fn refusal(mesh: &LinkedMesh, slice: &Slice) -> Option<Diagnostic> {
    let why = match recode(slice) {
        Err(rejection) => rejection.to_string(),
        Ok(recoded) => chain(&Snapshot::build(&recoded.value).err()?),
    };
    let owner = mesh
        .services
        .iter()
        .find(|service| service.identities.contains(&slice.identity))?;
    Some(
        Diagnostic::error(
            code::LIMIT_EXCEEDED,
            owner.name.span,
            format!(
                "the configuration of `{}` is one that no proxy takes: {why}",
                owner.name.value
            ),
        )
        .help("make it smaller"),
    )
}

/// What a feature asks of a proxy is for the proxy to judge: one that lacks it keeps its last good slice, and a later
/// release of it will not.
fn recode(slice: &Slice) -> Result<slice::Recoded<Slice>, mesh_bundle::reject::Rejection> {
    let needed: Vec<&str> = slice.required_features.iter().map(String::as_str).collect();
    slice.recode_with(&needed)
}

/// What the workloads are told of their callees, judged: once for callers that are told the same.
fn callees(mesh: &LinkedMesh, workloads: &[Workload<'_>]) -> Callees {
    let mut entering: BTreeMap<ServiceId, Vec<&Edge>> = BTreeMap::new();
    for edge in workloads.iter().flat_map(|workload| workload.callees(mesh)) {
        entering.entry(edge.callee).or_default().push(edge);
    }
    let told: Vec<_> = entering
        .into_par_iter()
        .flat_map_iter(|(callee, edges)| tell(mesh, callee, edges))
        .collect();
    told.into_iter().collect()
}

/// What callers are told that differs between them: timeouts and retries, and where they listen.
type Own = (Vec<slice::Exchange>, Vec<CalleeListener>);

fn tell(
    mesh: &LinkedMesh,
    callee: ServiceId,
    edges: Vec<&Edge>,
) -> Vec<((ServiceId, ServiceId), Arc<Told>)> {
    let service = mesh.service(callee);
    let judge = |edge: &Edge| {
        let callee = emit::callee(mesh, service, edge);
        let recoded = callee.recode().ok();
        let taken = recoded.filter(|recoded| CalleeTable::build(&recoded.value).is_ok());
        Arc::new(Told {
            required_features: feature::required_by_callee(&callee),
            bytes: taken.map(|recoded| recoded.bytes),
        })
    };
    // Most callers take the exchanges of the routes as they are, which needs no comparison.
    let mut plain: Option<Arc<Told>> = None;
    let mut others: HashMap<Own, Arc<Told>> = HashMap::new();
    let mut told = Vec::with_capacity(edges.len());
    for edge in edges {
        let mut exchanges = service.routes.iter().zip(&edge.exchanges);
        let listeners = emit::listeners_of(mesh, edge);
        let is_plain = listeners.is_empty()
            && exchanges.all(|(route, exchange)| Arc::ptr_eq(&route.exchange, exchange));
        let found = if is_plain {
            plain.get_or_insert_with(|| judge(edge))
        } else {
            let exchanges = edge.exchanges.iter().map(|own| emit::exchange(own));
            let own = (exchanges.collect(), listeners);
            others.entry(own).or_insert_with(|| judge(edge))
        };
        told.push(((edge.caller, edge.callee), Arc::clone(found)));
    }
    told
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util;

    const REST: &str = "\
mesh example { trust-domain \"example.test\" }
service a { port 80; endpoints { static \"10.0.0.1:80\" }; calls b; calls c { timeout \"1s\" } }
service b { port 80; endpoints { static \"10.0.0.2:80\" }; allow any; calls c }
service d { port 80; endpoints { static \"10.0.0.4:80\" }; identity \"spiffe://example.test/service/shared\"; calls c
    calls db { listen \"127.0.0.1:15432\" } }
service e { port 81; endpoints { static \"10.0.0.5:81\" }; identity \"spiffe://example.test/service/shared\"; calls c }
service db { port 5432 protocol=tcp; endpoints { static \"10.0.0.5:5432\" }; allow a d }
external pay { host \"pay.example\"; port 80; endpoints { dns \"pay.example:80\" }; allow b }
gateway public { listen 8080; allow unauthenticated; route all { to c port=80; timeout \"2s\" } }
";

    /// Every slice, judged in parts and as a whole.
    #[track_caller]
    fn check(c: &str, refused: &[&str]) {
        let text = format!("{REST}{c}");
        let sources = test_util::sources(&[("mesh.kdl", &text)]);
        let analysed = test_util::load(&sources);
        let mesh = analysed.mesh.unwrap_or_else(|| {
            let messages = analysed.diagnostics.iter().map(|finding| &finding.message);
            panic!("{:?}", messages.collect::<Vec<_>>());
        });
        let workloads = emit::workloads(&mesh);
        let mut found = Vec::new();
        for (workload, judged) in workloads.iter().zip(judge(&mesh, &workloads)) {
            let slice = workload.slice(&mesh);
            let whole = refusal(&mesh, &slice).map(|finding| finding.message);
            assert_eq!(judged.required_features, slice.required_features);
            assert_eq!(judged.refusal.map(|finding| finding.message), whole);
            found.extend(whole);
        }
        let of = |message: &String| message.split('`').nth(1).unwrap_or_default().to_owned();
        let found: Vec<String> = found.iter().map(of).collect();
        assert_eq!(found, refused);
    }

    const C: &str = "service c { port 80; endpoints { kubernetes namespace=c }; allow a b d e public; retry \"5xx\" attempts=3 ROUTES }";

    #[test]
    fn a_slice_is_taken_where_its_parts_are() {
        check(&C.replace("ROUTES", ""), &[]);
        check(
            &C.replace("ROUTES", "\nroute x { match { path \"/x\"; header h }; to service=b }\nroute y { match { path \"/y\" }; timeout \"3s\" }"),
            &[],
        );
    }

    /// More combinations than the engine takes in one callee, of which each match has few.
    #[test]
    fn whoever_calls_what_no_proxy_takes_is_refused() {
        let hosts: Vec<String> = (0..16).map(|host| format!("\"h{host}.example\"")).collect();
        let paths: Vec<String> = (0..255).map(|path| format!("\"/{path}\"")).collect();
        let block = format!(
            "match {{ host {}; path {}; port PORTS }}",
            hosts.join(" "),
            paths.join(" ")
        );
        let ports: Vec<String> = (1..=200).map(|port| port.to_string()).collect();
        let ports = ports.join(" ");
        let block = block.replace("PORTS", &ports);
        let routes = format!("\nroute one {{ {block} }}\nroute two {{ {block} }}");
        let c = C.replace("ROUTES", &routes);
        let c = c.replace("port 80", &format!("port {ports}"));
        check(&c, &["public", "a", "b", "d"]);
    }
}
