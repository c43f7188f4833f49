//! A real Kubernetes, and a mesh in it: `make test-cluster`. Tests need an API server or nodes, each its own.

mod charts;
mod check;
mod faults;
mod harness;
mod install;
mod nodes;
mod operator;
mod policies;
mod replicas;
mod resources;
mod rotation;
mod webhooks;
mod workloads;
