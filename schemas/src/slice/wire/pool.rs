//! How endpoints are picked, limited and watched.

use super::exchange::{duration, millis, optional_duration};
use super::{Result, name, not_empty, optional_name, pattern, share, unless_default, unspecified};
use crate::canonical::{
    Wire, ascending_by_bytes, counted, each, enumeration, invalid, required, set_by_bytes, within,
};
use crate::limits;
use crate::messages::bundle as wire;
use crate::slice::{
    Balance, HealthCheck, HealthCheckKind, Limits, Locality, LocalityFallback, Outlier,
    OutlierRates, Pool, SubsetPool,
};

pub(super) fn balance_to(balance: Balance) -> i32 {
    match balance {
        Balance::RoundRobin => wire::Balance::RoundRobin as i32,
        Balance::LeastRequest => wire::Balance::LeastRequest as i32,
        Balance::Random => wire::Balance::Random as i32,
        Balance::PeakEwma => wire::Balance::PeakEwma as i32,
        Balance::RingHash => wire::Balance::RingHash as i32,
        Balance::Maglev => wire::Balance::Maglev as i32,
    }
}

pub(super) fn balance_from(field: &'static str, value: i32) -> Result<Balance> {
    Ok(match enumeration(field, value)? {
        wire::Balance::Unspecified => return unspecified(field),
        wire::Balance::RoundRobin => Balance::RoundRobin,
        wire::Balance::LeastRequest => Balance::LeastRequest,
        wire::Balance::Random => Balance::Random,
        wire::Balance::PeakEwma => Balance::PeakEwma,
        wire::Balance::RingHash => Balance::RingHash,
        wire::Balance::Maglev => Balance::Maglev,
    })
}

impl Wire for SubsetPool {
    type Message = wire::SubsetPool;

    fn to_message(&self) -> wire::SubsetPool {
        wire::SubsetPool {
            balance: balance_to(self.balance),
            pool: unless_default(self.pool.to_message()),
        }
    }

    fn from_message(message: wire::SubsetPool) -> Result<Self> {
        Ok(Self {
            balance: balance_from("subset_pool.balance", message.balance)?,
            pool: Pool::from_message(message.pool.unwrap_or_default())?,
        })
    }
}

impl Wire for Pool {
    type Message = wire::Pool;

    fn to_message(&self) -> wire::Pool {
        wire::Pool {
            hash_keys: set_by_bytes(&self.hash_keys),
            choices: self.choices.unwrap_or(0),
            slow_start_ms: self.slow_start.map(millis),
            locality: self.locality.as_ref().map(Wire::to_message),
            limits: unless_default(self.limits.to_message()),
            outlier: self.outlier.as_ref().map(Wire::to_message),
            health_checks: set_by_bytes(&self.health_checks),
        }
    }

    fn from_message(message: wire::Pool) -> Result<Self> {
        ascending_by_bytes(
            "pool.hash_keys",
            &message.hash_keys,
            limits::REQUEST_KEYS_MAX,
        )?;
        ascending_by_bytes(
            "pool.health_checks",
            &message.health_checks,
            limits::HEALTH_CHECKS_MAX,
        )?;
        let choices = match message.choices {
            0 => None,
            choices => Some(within("pool.choices", choices, 1, limits::CHOICES_MAX)?),
        };
        Ok(Self {
            hash_keys: each(message.hash_keys)?,
            choices,
            slow_start: optional_duration("pool.slow_start_ms", message.slow_start_ms)?,
            locality: message.locality.map(Locality::from_message).transpose()?,
            limits: Limits::from_message(message.limits.unwrap_or_default())?,
            outlier: message.outlier.map(Outlier::from_message).transpose()?,
            health_checks: each(message.health_checks)?,
        })
    }
}

impl Wire for Locality {
    type Message = wire::Locality;

    fn to_message(&self) -> wire::Locality {
        wire::Locality {
            labels: self.labels.clone(),
            min_healthy: self.min_healthy,
            otherwise: self.otherwise.iter().map(Wire::to_message).collect(),
            confined: self.confined,
        }
    }

    fn from_message(message: wire::Locality) -> Result<Self> {
        not_empty("locality.labels", &message.labels)?;
        counted(
            "locality.otherwise",
            &message.otherwise,
            limits::DESTINATIONS_MAX,
        )?;
        Ok(Self {
            labels: in_order("locality.labels", message.labels, limits::LABELS_MAX)?,
            min_healthy: share("locality.min_healthy", message.min_healthy)?,
            otherwise: each(message.otherwise)?,
            confined: message.confined,
        })
    }
}

impl Wire for LocalityFallback {
    type Message = wire::LocalityFallback;

    fn to_message(&self) -> wire::LocalityFallback {
        wire::LocalityFallback {
            values: self.values.clone(),
            from: self.from.clone().unwrap_or_default(),
        }
    }

    fn from_message(message: wire::LocalityFallback) -> Result<Self> {
        const FIELD: &str = "locality_fallback.values";
        not_empty(FIELD, &message.values)?;
        Ok(Self {
            values: in_order(FIELD, message.values, limits::DESTINATIONS_MAX)?,
            from: optional_name("locality_fallback.from", message.from)?,
        })
    }
}

/// Names in the order in which they are tried, each once.
fn in_order(field: &'static str, list: Vec<String>, count_max: usize) -> Result<Vec<String>> {
    counted(field, &list, count_max)?;
    let distinct: std::collections::BTreeSet<_> = list.iter().collect();
    if distinct.len() < list.len() {
        return Err(invalid(field, "has an element twice"));
    }
    list.into_iter().map(|value| name(field, value)).collect()
}

impl Wire for Limits {
    type Message = wire::Limits;

    fn to_message(&self) -> wire::Limits {
        wire::Limits {
            connections: self.connections,
            pending: self.pending,
            requests: self.requests,
            retries: self.retries,
            requests_per_connection: self.requests_per_connection,
            body_bytes: self.body_bytes,
            adaptive: self.adaptive,
        }
    }

    fn from_message(message: wire::Limits) -> Result<Self> {
        let number = |field, value: Option<u32>, low| {
            value
                .map(|value| within(field, value, low, limits::LIMIT_MAX))
                .transpose()
        };
        Ok(Self {
            connections: number("limits.connections", message.connections, 1)?,
            pending: number("limits.pending", message.pending, 0)?,
            requests: number("limits.requests", message.requests, 1)?,
            retries: number("limits.retries", message.retries, 0)?,
            requests_per_connection: number(
                "limits.requests_per_connection",
                message.requests_per_connection,
                1,
            )?,
            body_bytes: message
                .body_bytes
                .map(|bytes| within("limits.body_bytes", bytes, 0, limits::BODY_LIMIT_MAX))
                .transpose()?,
            adaptive: message
                .adaptive
                .map(|share| within("limits.adaptive", share, 1, 10_000))
                .transpose()?,
        })
    }
}

impl Wire for Outlier {
    type Message = wire::Outlier;

    fn to_message(&self) -> wire::Outlier {
        wire::Outlier {
            consecutive_5xx: self.consecutive_5xx,
            consecutive_gateway: self.consecutive_gateway,
            every_ms: millis(self.every),
            eject_ms: millis(self.eject),
            max_ejected: self.max_ejected,
            consecutive_local: self.consecutive_local,
            rates: self.rates.as_ref().map(Wire::to_message),
        }
    }

    fn from_message(message: wire::Outlier) -> Result<Self> {
        let number = |field, value: Option<u32>| {
            value
                .map(|value| within(field, value, 1, limits::LIMIT_MAX))
                .transpose()
        };
        Ok(Self {
            consecutive_5xx: number("outlier.consecutive_5xx", message.consecutive_5xx)?,
            consecutive_gateway: number(
                "outlier.consecutive_gateway",
                message.consecutive_gateway,
            )?,
            consecutive_local: number("outlier.consecutive_local", message.consecutive_local)?,
            rates: message.rates.map(OutlierRates::from_message).transpose()?,
            every: duration("outlier.every_ms", message.every_ms)?,
            eject: duration("outlier.eject_ms", message.eject_ms)?,
            max_ejected: share("outlier.max_ejected", message.max_ejected)?,
        })
    }
}

impl Wire for OutlierRates {
    type Message = wire::OutlierRates;

    fn to_message(&self) -> wire::OutlierRates {
        wire::OutlierRates {
            success_rate_deviations: self.success_rate_deviations,
            failure_percentage: self.failure_percentage,
            min_hosts: self.min_hosts,
            min_requests: self.min_requests,
        }
    }

    fn from_message(message: wire::OutlierRates) -> Result<Self> {
        if message.success_rate_deviations.is_none() && message.failure_percentage.is_none() {
            return Err(invalid("outlier.rates", "compares nothing"));
        }
        let number = |field, value| within(field, value, 1, limits::LIMIT_MAX);
        Ok(Self {
            success_rate_deviations: message
                .success_rate_deviations
                .map(|value| number("outlier_rates.success_rate_deviations", value))
                .transpose()?,
            failure_percentage: message
                .failure_percentage
                .map(|value| within("outlier_rates.failure_percentage", value, 1, 10_000))
                .transpose()?,
            min_hosts: number("outlier_rates.min_hosts", message.min_hosts)?,
            min_requests: number("outlier_rates.min_requests", message.min_requests)?,
        })
    }
}

impl Wire for HealthCheck {
    type Message = wire::HealthCheck;

    fn to_message(&self) -> wire::HealthCheck {
        use wire::health_check::Kind;
        wire::HealthCheck {
            every_ms: millis(self.every),
            timeout_ms: millis(self.timeout),
            healthy: self.healthy,
            unhealthy: self.unhealthy,
            kind: Some(match &self.kind {
                HealthCheckKind::Http(path) => Kind::Http(path.clone()),
                HealthCheckKind::Tcp => Kind::Tcp(wire::Unit {}),
                HealthCheckKind::Grpc => Kind::Grpc(wire::Unit {}),
            }),
        }
    }

    fn from_message(message: wire::HealthCheck) -> Result<Self> {
        use wire::health_check::Kind;
        let number = |field, value| within(field, value, 1, limits::LIMIT_MAX);
        Ok(Self {
            kind: match required("health_check.kind", message.kind)? {
                Kind::Http(path) if !path.starts_with('/') => {
                    return Err(invalid("health_check.http", "does not begin with \"/\""));
                }
                Kind::Http(path) => HealthCheckKind::Http(pattern("health_check.http", path)?),
                Kind::Tcp(wire::Unit {}) => HealthCheckKind::Tcp,
                Kind::Grpc(wire::Unit {}) => HealthCheckKind::Grpc,
            },
            every: duration("health_check.every_ms", message.every_ms)?,
            timeout: duration("health_check.timeout_ms", message.timeout_ms)?,
            healthy: number("health_check.healthy", message.healthy)?,
            unhealthy: number("health_check.unhealthy", message.unhealthy)?,
        })
    }
}
