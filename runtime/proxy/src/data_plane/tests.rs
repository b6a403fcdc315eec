//! Two whole data planes on loopback, with real certificates and real sockets: a caller's and a
//! callee's, and an application behind the latter that the test plays.

mod authorizers;
mod balancing;
mod client_certificates;
mod drain;
mod ejection;
mod ending;
mod exchange;
mod external;
mod filters;
mod frames;
mod gateway;
mod grpc;
mod harness;
mod hostile;
mod http1;
mod identity;
mod idle;
mod intercept;
mod left_out;
mod logs;
mod loops;
mod paths;
mod plaintext;
mod protection;
mod rates;
mod raw;
mod reference;
mod retries;
mod shown;
mod tcp;
mod tls;
mod tokens;
mod traces;
mod upgrade;
mod websocket;
