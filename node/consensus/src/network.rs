//! The way to the other members. A group of one has none: whoever is asked for is unreachable, which openraft treats as a
//! member that is down.

use std::{future::Future, io};

use flotilla_base::NodeId;
use openraft::{
    EmptyNode,
    error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};

use crate::types::{Snapshot, TypeConfig, Vote};

pub(crate) struct Alone;

/// What leads to `.0`.
pub(crate) struct NoLink(NodeId);

type RpcError = RPCError<NodeId, EmptyNode, RaftError<NodeId>>;

impl NoLink {
    fn unreachable(&self) -> Unreachable {
        Unreachable::new(&io::Error::new(io::ErrorKind::HostUnreachable, format!("no link to node {}", self.0)))
    }
}

impl RaftNetworkFactory<TypeConfig> for Alone {
    type Network = NoLink;

    async fn new_client(&mut self, target: NodeId, _: &EmptyNode) -> NoLink {
        NoLink(target)
    }
}

impl RaftNetwork<TypeConfig> for NoLink {
    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, RpcError> {
        Err(self.unreachable().into())
    }

    async fn vote(&mut self, _: VoteRequest<NodeId>, _: RPCOption) -> Result<VoteResponse<NodeId>, RpcError> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _: Vote,
        _: Snapshot,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<TypeConfig, Fatal<NodeId>>> {
        Err(StreamingError::Unreachable(self.unreachable()))
    }
}
