//! Gateways: the routes of requests that come from outside the mesh.

use super::{Exchange, Route};

/// A gateway that this identity is. How it is entered is its [`super::InboundService`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// Name of the gateway, which is the `service` of its [`super::InboundService`].
    pub name: String,
    /// The engine ranks them by specificity. Their destinations are callees of the slice, whose own
    /// routes requests then take.
    pub routes: Vec<Route>,
}

/// What holds for a request of a gateway's route that then takes this route of a callee.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CalleeExchange {
    /// Name of the callee.
    pub service: String,
    /// Name of its route.
    pub route: String,
    /// The callee's route, tightened by the gateway's.
    pub exchange: Exchange,
}
