//! The way to the other members. A group of one has none: whoever is asked for is unreachable, which openraft treats as a
//! member that is down.

use std::{future::Future, io};

use flotilla_base::{LogIndex, NodeId};
use flotilla_state::CommandBatch;
use openraft::{
    EmptyNode,
    error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};

use crate::types::{Replies, Snapshot, TypeConfig, Vote};

#[derive(Clone, Copy)]
pub(crate) struct Alone;

/// What leads to `.0`.
pub(crate) struct NoLink(NodeId);

type RpcError = RPCError<NodeId, EmptyNode, RaftError<NodeId>>;

impl Alone {
    /// Has the leader propose the commands, under the ids they have and its own time; answers after they are committed.
    pub(crate) async fn forward(self, leader: NodeId, _: CommandBatch) -> Result<Replies, Unreachable> {
        Err(NoLink(leader).unreachable())
    }

    /// Up to where must be applied here before a read shows all that was acknowledged.
    pub(crate) async fn read_index(self, leader: NodeId) -> Result<LogIndex, Unreachable> {
        Err(NoLink(leader).unreachable())
    }
}

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
