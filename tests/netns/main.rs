//! Hosts as network namespaces, and programs on them that know nothing of the mesh: curl, nginx, Python's
//! grpcio. Their connections are redirected by the kernel, so these cases need root, and without it say that
//! they were skipped. So they do where a program is missing, unless `MESH_CI_TOOLS=required`: then they fail.

mod bytes;
mod edges;
mod grpc;
mod http;
mod interop;
mod load;
mod refusals;
mod rules;
mod websocket;
