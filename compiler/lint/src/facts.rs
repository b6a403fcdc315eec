//! What rules may ask about a mesh. Costly answers are computed once, when first asked for.

use std::cell::OnceCell;

use mesh_compiler::LinkedMesh;
use mesh_compiler::analysis::access::AccessFacts;
use mesh_compiler::analysis::call_graph::CallGraph;
use mesh_compiler::analysis::request_space::Point;
use mesh_compiler::analysis::routes::RouteFacts;
use mesh_compiler::diff::Change;
use mesh_compiler::diff::access::{self as access_diff, AccessChange};
use mesh_compiler::diff::slices::SliceChange;
use mesh_compiler::diff::staging::{self, Staging};
use mesh_compiler::linked::{Service, ServiceId};
use mesh_compiler::progress::{Observer, Stage};
use mesh_syntax::{Diagnostic, Witness};

/// A mesh and what is known about it.
#[derive(Debug)]
pub(crate) struct Facts<'m> {
    mesh: &'m LinkedMesh,
    graph: OnceCell<CallGraph>,
    declared: OnceCell<CallGraph>,
    routes: OnceCell<Vec<RouteFacts>>,
    access: OnceCell<Vec<AccessFacts>>,
    change: Option<ChangeFacts<'m>>,
}

/// What is deployed, and what is known about the difference.
#[derive(Debug)]
pub(crate) struct ChangeFacts<'m> {
    meshes: Change<'m>,
    access: OnceCell<Vec<AccessChange>>,
    staging: OnceCell<Staging>,
    slices: OnceCell<Option<SliceChange>>,
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
            graph: OnceCell::new(),
            declared: OnceCell::new(),
            routes: OnceCell::new(),
            access: OnceCell::new(),
            change: None,
        }
    }

    /// The same mesh, as what would replace another one.
    pub(crate) fn against(self, base: &'m LinkedMesh) -> Self {
        Self {
            change: Some(ChangeFacts {
                meshes: Change::new(base, self.mesh),
                access: OnceCell::new(),
                staging: OnceCell::new(),
                slices: OnceCell::new(),
            }),
            ..self
        }
    }

    /// What is deployed, where that is known.
    pub(crate) fn change(&self) -> Option<&ChangeFacts<'m>> {
        self.change.as_ref()
    }

    /// Computes every costly answer.
    pub(crate) fn compute(&self, observer: &mut dyn Observer) {
        observer.begin(Stage::Facts("call graph"));
        self.graph();
        observer.begin(Stage::Facts("routes"));
        drop(self.routes());
        observer.begin(Stage::Facts("access"));
        drop(self.access());
    }

    pub(crate) fn mesh(&self) -> &'m LinkedMesh {
        self.mesh
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
        let facts = self.routes.get_or_init(|| RouteFacts::all(self.mesh));
        self.mesh.services.iter().zip(facts)
    }

    /// Each service with what its access rules do to each other.
    pub(crate) fn access(&self) -> impl Iterator<Item = (&'m Service, &AccessFacts)> {
        let facts = self.access.get_or_init(|| AccessFacts::all(self.mesh));
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
        point.to_witness(from, to.name.value.clone(), to.ports.len() > 1)
    }
}
