//! What rules may ask about a mesh. Costly answers are computed once, when first asked for.

use std::sync::{Arc, OnceLock};

use mesh_compiler::analysis::access::AccessFacts;
use mesh_compiler::analysis::call_graph::CallGraph;
use mesh_compiler::analysis::probe::Probe;
use mesh_compiler::analysis::request_space::Point;
use mesh_compiler::analysis::routes::RouteFacts;
use mesh_compiler::date::Date;
use mesh_compiler::diff::Change;
use mesh_compiler::diff::access::{self as access_diff, AccessChange, Loss};
use mesh_compiler::diff::slices::SliceChange;
use mesh_compiler::diff::staging::{self, Staging};
use mesh_compiler::linked::{Edge, Exchange, Route, Service, ServiceId};
use mesh_compiler::progress::{Observer, Stage};
use mesh_compiler::{LinkedMesh, Unchanged};
use mesh_syntax::{Diagnostic, Witness};
use rayon::prelude::*;

/// A mesh and what is known about it.
#[derive(Debug)]
pub(crate) struct Facts<'m> {
    mesh: &'m LinkedMesh,
    graph: OnceLock<CallGraph>,
    declared: OnceLock<CallGraph>,
    of_services: OnceLock<ServiceFacts>,
    own_exchanges: OnceLock<Vec<(usize, usize)>>,
    earlier: Option<(&'m Unchanged, &'m ServiceFacts)>,
    change: Option<ChangeFacts<'m>>,
    today: Option<Date>,
}

/// What is known of each service by itself, in the order of [`LinkedMesh::services`].
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceFacts(Vec<Arc<OfService>>);

/// What is known of one service.
#[derive(Debug, Default)]
struct OfService {
    routes: RouteFacts,
    access: AccessFacts,
}

impl OfService {
    fn of(mesh: &LinkedMesh, id: ServiceId) -> Self {
        // The engine compiles a service once for all that is asked about it.
        let probe = Probe::of(mesh, id);
        probe.map_or_else(Self::default, |probe| Self {
            routes: RouteFacts::asking(mesh, id, &probe),
            access: AccessFacts::asking(mesh, id, &probe),
        })
    }
}

/// What is deployed, and what is known about the difference.
#[derive(Debug)]
pub(crate) struct ChangeFacts<'m> {
    meshes: Change<'m>,
    access: OnceLock<Vec<AccessChange>>,
    staging: OnceLock<Staging>,
    slices: OnceLock<Option<SliceChange>>,
}

impl<'m> ChangeFacts<'m> {
    /// The two meshes.
    pub(crate) fn meshes(&self) -> Change<'m> {
        self.meshes
    }

    /// Services to which somebody gained or lost access.
    pub(crate) fn access(&self) -> &[AccessChange] {
        self.access
            .get_or_init(|| access_diff::changes(self.meshes))
    }

    /// Pairs that don't work while the change rolls out, and the way around it.
    pub(crate) fn staging(&self) -> &Staging {
        self.staging.get_or_init(|| staging::of(self.meshes))
    }

    /// Whose slices change.
    pub(crate) fn slices(&self) -> Option<&SliceChange> {
        self.slices
            .get_or_init(|| SliceChange::of(self.meshes))
            .as_ref()
    }
}

impl<'m> Facts<'m> {
    pub(crate) fn new(mesh: &'m LinkedMesh) -> Self {
        Self {
            mesh,
            graph: OnceLock::new(),
            declared: OnceLock::new(),
            of_services: OnceLock::new(),
            own_exchanges: OnceLock::new(),
            earlier: None,
            change: None,
            today: None,
        }
    }

    /// The same mesh, judged on a day.
    pub(crate) fn on(self, today: Date) -> Self {
        Self {
            today: Some(today),
            ..self
        }
    }

    /// The day on which the mesh is judged, where that is known.
    pub(crate) const fn today(&self) -> Option<Date> {
        self.today
    }

    /// The same mesh, of which some services are as they were in an earlier one.
    pub(crate) fn since(self, unchanged: &'m Unchanged, earlier: &'m ServiceFacts) -> Self {
        Self {
            earlier: Some((unchanged, earlier)),
            ..self
        }
    }

    /// What was computed for each service, and the graphs, which nobody asks for any more.
    pub(crate) fn into_parts(self) -> (ServiceFacts, [Option<CallGraph>; 2]) {
        let facts = self.of_services.into_inner().unwrap_or_default();
        (facts, [self.graph.into_inner(), self.declared.into_inner()])
    }

    /// The same mesh, as what would replace another one.
    pub(crate) fn against(self, base: &'m LinkedMesh) -> Self {
        Self {
            change: Some(ChangeFacts {
                meshes: Change::new(base, self.mesh),
                access: OnceLock::new(),
                staging: OnceLock::new(),
                slices: OnceLock::new(),
            }),
            ..self
        }
    }

    /// What is deployed, where that is known.
    pub(crate) fn change(&self) -> Option<&ChangeFacts<'m>> {
        self.change.as_ref()
    }

    /// Computes every costly answer that a rule about one mesh may ask for. Rules run beside each other, and an answer
    /// that is computed in parallel must not be asked for first by several of them.
    pub(crate) fn compute(&self, observer: &mut dyn Observer) {
        observer.begin(Stage::Facts("call graph"));
        self.declared();
        let facts = self.compute_of_services(observer);
        self.of_services.get_or_init(|| facts);
        self.own_exchanges.get_or_init(|| own_exchanges(self.mesh));
    }

    fn compute_of_services(&self, observer: &mut dyn Observer) -> ServiceFacts {
        let mesh = self.mesh;
        let nothing = ServiceFacts::default();
        let none = Unchanged::default();
        let (unchanged, earlier) = match &self.earlier {
            Some((unchanged, earlier)) => (*unchanged, *earlier),
            None => (&none, &nothing),
        };
        observer.begin(Stage::Facts("routes and access"));
        ServiceFacts(unchanged.again(mesh, &earlier.0, |id| OfService::of(mesh, id)))
    }

    fn of_services(&self) -> &ServiceFacts {
        let compute = || self.compute_of_services(&mut ());
        self.of_services.get_or_init(compute)
    }

    pub(crate) fn mesh(&self) -> &'m LinkedMesh {
        self.mesh
    }

    /// Every exchange that differs for a caller: the edge and the position of the route, in the order of both.
    pub(crate) fn own_exchanges(&self) -> impl Iterator<Item = (&'m Edge, usize)> {
        let found = self.own_exchanges.get_or_init(|| own_exchanges(self.mesh));
        let edge = |(edge, route): &(usize, usize)| Some((self.mesh.edges.get(*edge)?, *route));
        found.iter().filter_map(edge)
    }

    /// Declared and permitted calls.
    pub(crate) fn graph(&self) -> &CallGraph {
        self.graph.get_or_init(|| CallGraph::of(self.mesh))
    }

    /// The calls that policy says happen.
    pub(crate) fn declared(&self) -> &CallGraph {
        self.declared.get_or_init(|| self.graph().declared())
    }

    /// Each service with what its routes do to each other.
    pub(crate) fn routes(&self) -> impl Iterator<Item = (&'m Service, &RouteFacts)> {
        let facts = self.of_services().0.iter().map(|of| &of.routes);
        self.mesh.services.iter().zip(facts)
    }

    /// Each service with what its access rules do to each other.
    pub(crate) fn access(&self) -> impl Iterator<Item = (&'m Service, &AccessFacts)> {
        let facts = self.of_services().0.iter().map(|of| &of.access);
        self.mesh.services.iter().zip(facts)
    }

    /// A finding that speaks of requests to a service: certain only with one that the engine has confirmed.
    pub(crate) fn witnessed(
        &self,
        finding: Diagnostic,
        point: Option<&Point>,
        to: ServiceId,
    ) -> Diagnostic {
        match point {
            Some(point) => finding.witness(self.witness(point, to)),
            None => finding.possible(),
        }
    }

    /// Gives calls that are refused altogether (MSH0114) a request that what is deployed lets in, where it let some in: that
    /// is what the change breaks.
    pub(crate) fn show_what_was_let_in(&self, findings: &mut [Diagnostic]) {
        let Some(change) = &self.change else { return };
        for finding in findings
            .iter_mut()
            .filter(|finding| finding.code == "MSH0114")
        {
            let Some(shown) = finding.witness.as_mut() else {
                continue;
            };
            let to = self.mesh.service_named(&shown.to);
            let lost = change
                .access()
                .iter()
                .filter(|each| Some(each.service.head) == to);
            let from = |loss: &&Loss| {
                let caller = loss
                    .caller
                    .map(|caller| &self.mesh.service(caller.head).name.value);
                caller == shown.from.as_ref()
            };
            let point = lost
                .flat_map(|each| &each.lost)
                .find(from)
                .and_then(|loss| loss.witness.as_ref());
            if let (Some(point), Some(to)) = (point, to) {
                *shown = self.witness(point, to);
            }
        }
    }

    /// A request to a service as findings show it. A caller without a service keeps its identity.
    pub(crate) fn witness(&self, point: &Point, to: ServiceId) -> Witness {
        let to = self.mesh.service(to);
        let name = |identity: &String| {
            let named = |service: &&Service| {
                service
                    .identities
                    .iter()
                    .any(|own| own.as_str() == identity)
            };
            let caller = self.mesh.services.iter().find(named);
            caller.map_or_else(|| identity.clone(), |caller| caller.name.value.clone())
        };
        let from = point.from.as_ref().map(name);
        let change = self.change.as_ref().map(ChangeFacts::meshes);
        let names_port = match change {
            Some(change) => change.names_port(&to.name.value),
            None => to.ports.len() > 1,
        };
        point.to_witness(from, to.name.value.clone(), names_port)
    }
}

/// Positions of edges, and of the routes of their callees of which the callers' exchanges differ.
fn own_exchanges(mesh: &LinkedMesh) -> Vec<(usize, usize)> {
    let of = |(position, edge): (usize, &Edge)| {
        let routes = mesh.service(edge.callee).routes.iter().zip(&edge.exchanges);
        let differs = |(_, (route, exchange)): &(usize, (&Route, &Arc<Exchange>))| {
            // Nearly all are the route's own, which need no comparison.
            !Arc::ptr_eq(&route.exchange, exchange) && route.exchange != **exchange
        };
        let own = routes.enumerate().filter(differs);
        own.map(|(route, _)| (position, route)).collect::<Vec<_>>()
    };
    let edges = mesh.edges.par_iter().enumerate();
    edges.flat_map_iter(of).collect()
}
