//! Routes of callees and gateways, and their destinations.

use super::condition::conditions_from;
use super::{Result, name, target_from, target_to, unless_default};
use crate::canonical::{
    Wire, ascending, ascending_by_bytes, counted, each, invalid, required, set_by_bytes, within,
};
use crate::limits;
use crate::messages::bundle as wire;
use crate::slice::{
    Answer, CalleeExchange, Destination, Exchange, Gateway, HeaderEdits, Redirect, Respond, Route,
    RouteFilters, RouteMatch,
};

impl Wire for Route {
    type Message = wire::Route;

    fn to_message(&self) -> wire::Route {
        let mut destinations: Vec<_> = self.destinations.iter().map(Wire::to_message).collect();
        destinations.sort_by(|a: &wire::Destination, b| {
            (&a.service, &a.subset, a.port).cmp(&(&b.service, &b.subset, b.port))
        });
        let mut exchanges: Vec<_> = self.exchanges.iter().map(Wire::to_message).collect();
        exchanges.sort_by(|a: &wire::CalleeExchange, b| {
            (&a.service, &a.route).cmp(&(&b.service, &b.route))
        });
        wire::Route {
            name: self.name.clone(),
            matches: set_by_bytes(&self.matches),
            destinations,
            exchange: Some(self.exchange.to_message()),
            answer: self.answer.as_ref().map(|answer| match answer {
                Answer::Redirect(redirect) => wire::route::Answer::Redirect(redirect.to_message()),
                Answer::Respond(respond) => wire::route::Answer::Respond(respond.to_message()),
            }),
            filters: unless_default(self.filters.to_message()),
            exchanges,
        }
    }

    fn from_message(message: wire::Route) -> Result<Self> {
        ascending_by_bytes("route.matches", &message.matches, limits::VALUES_MAX)?;
        let answer = match message.answer {
            None => None,
            Some(wire::route::Answer::Redirect(redirect)) => {
                Some(Answer::Redirect(Redirect::from_message(redirect)?))
            }
            Some(wire::route::Answer::Respond(respond)) => {
                Some(Answer::Respond(Respond::from_message(respond)?))
            }
        };
        if answer.is_some() != message.destinations.is_empty() {
            return Err(invalid(
                "route.destinations",
                "neither destinations nor an answer, or both",
            ));
        }
        ascending(
            "route.destinations",
            &message.destinations,
            limits::DESTINATIONS_MAX,
            |a, b| (&a.service, &a.subset, a.port) < (&b.service, &b.subset, b.port),
        )?;
        ascending(
            "route.exchanges",
            &message.exchanges,
            limits::ROUTES_MAX,
            |a, b| (&a.service, &a.route) < (&b.service, &b.route),
        )?;
        if answer.is_none() && message.destinations.iter().all(|to| to.weight == 0) {
            return Err(invalid("route.destinations", "every weight is 0"));
        }
        Ok(Self {
            name: name("route.name", message.name)?,
            matches: each(message.matches)?,
            destinations: each(message.destinations)?,
            exchange: Exchange::from_message(required("route.exchange", message.exchange)?)?,
            answer,
            filters: RouteFilters::from_message(message.filters.unwrap_or_default())?,
            exchanges: each(message.exchanges)?,
        })
    }
}

impl Wire for RouteMatch {
    type Message = wire::RouteMatch;

    fn to_message(&self) -> wire::RouteMatch {
        wire::RouteMatch {
            conditions: set_by_bytes(&self.conditions),
        }
    }

    fn from_message(message: wire::RouteMatch) -> Result<Self> {
        Ok(Self {
            conditions: conditions_from("route_match.conditions", message.conditions)?,
        })
    }
}

impl Wire for Destination {
    type Message = wire::Destination;

    fn to_message(&self) -> wire::Destination {
        let target = target_to(&self.target);
        wire::Destination {
            service: target.service,
            subset: target.subset,
            weight: self.weight,
            otherwise: self.otherwise.iter().map(target_to).collect(),
            port: target.port,
            request_headers: unless_default(self.request_headers.to_message()),
            response_headers: unless_default(self.response_headers.to_message()),
        }
    }

    fn from_message(message: wire::Destination) -> Result<Self> {
        counted(
            "destination.otherwise",
            &message.otherwise,
            limits::DESTINATIONS_MAX,
        )?;
        let target = wire::Fallback {
            service: message.service,
            subset: message.subset,
            port: message.port,
        };
        Ok(Self {
            target: target_from("destination", target)?,
            weight: within("destination.weight", message.weight, 0, limits::WEIGHT_MAX)?,
            otherwise: message
                .otherwise
                .into_iter()
                .map(|to| target_from("destination.otherwise", to))
                .collect::<Result<_>>()?,
            request_headers: HeaderEdits::from_message(
                message.request_headers.unwrap_or_default(),
            )?,
            response_headers: HeaderEdits::from_message(
                message.response_headers.unwrap_or_default(),
            )?,
        })
    }
}

impl Wire for Gateway {
    type Message = wire::Gateway;

    fn to_message(&self) -> wire::Gateway {
        let mut routes: Vec<_> = self.routes.iter().map(Wire::to_message).collect();
        routes.sort_by(|a: &wire::Route, b| a.name.cmp(&b.name));
        wire::Gateway {
            name: self.name.clone(),
            routes,
        }
    }

    fn from_message(message: wire::Gateway) -> Result<Self> {
        ascending(
            "gateway.routes",
            &message.routes,
            limits::ROUTES_MAX,
            |a, b| a.name < b.name,
        )?;
        Ok(Self {
            name: name("gateway.name", message.name)?,
            routes: each(message.routes)?,
        })
    }
}

impl Wire for CalleeExchange {
    type Message = wire::CalleeExchange;

    fn to_message(&self) -> wire::CalleeExchange {
        wire::CalleeExchange {
            service: self.service.clone(),
            route: self.route.clone(),
            exchange: Some(self.exchange.to_message()),
        }
    }

    fn from_message(message: wire::CalleeExchange) -> Result<Self> {
        Ok(Self {
            service: name("callee_exchange.service", message.service)?,
            route: name("callee_exchange.route", message.route)?,
            exchange: Exchange::from_message(required(
                "callee_exchange.exchange",
                message.exchange,
            )?)?,
        })
    }
}
