//! The order of generations.

use std::fmt;

use crate::canonical::{self, NonCanonical, Wire};
use crate::messages::bundle as wire;

/// Place of a generation: compared by epoch, then sequence, then emit.
///
/// The epoch belongs to the trust root. The sequence is the number of commits reachable from the
/// commit, so a revert has a higher one than what it reverts. The emit number is raised whenever
/// the compiler's bytes change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// Of the trust root.
    pub epoch: u64,
    /// Commits reachable from the commit, itself included; at least 1.
    pub sequence: u64,
    /// Byte-format number of the compiler; at least 1.
    pub emit: u32,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.sequence, self.emit)
    }
}

/// A text is not an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an order, written like \"0.42.1\"")]
pub struct OrderError;

impl std::str::FromStr for Order {
    type Err = OrderError;

    fn from_str(text: &str) -> Result<Self, OrderError> {
        let mut parts = text.split('.');
        let order = (|| {
            Some(Self {
                epoch: parts.next()?.parse().ok()?,
                sequence: parts.next()?.parse().ok()?,
                emit: parts.next()?.parse().ok()?,
            })
        })();
        match (order, parts.next()) {
            (Some(order), None) => Ok(order),
            _ => Err(OrderError),
        }
    }
}

impl Wire for Order {
    type Message = wire::Order;

    fn to_message(&self) -> wire::Order {
        wire::Order {
            epoch: self.epoch,
            sequence: self.sequence,
            emit: self.emit,
        }
    }

    fn from_message(message: wire::Order) -> Result<Self, NonCanonical> {
        if message.sequence == 0 || message.emit == 0 {
            return Err(canonical::invalid("order", "sequence and emit begin at 1"));
        }
        Ok(Self {
            epoch: message.epoch,
            sequence: message.sequence,
            emit: message.emit,
        })
    }
}

impl From<Order> for wire::Order {
    fn from(order: Order) -> Self {
        order.to_message()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_epoch_then_sequence_then_emit() {
        let order = |text: &str| text.parse::<Order>().unwrap();
        assert!(order("0.42.1") < order("0.43.1"));
        assert!(order("0.42.1") < order("0.42.2"));
        assert!(order("0.99.9") < order("1.1.1"));
        assert_eq!(order("0.42.1").to_string(), "0.42.1");
        assert!("0.42".parse::<Order>().is_err());
        assert!("0.42.1.1".parse::<Order>().is_err());
        assert!("0.-42.1".parse::<Order>().is_err());
    }
}
