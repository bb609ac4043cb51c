//! The concurrent table under GenRegistry: ids to pids, read without locks.
//!
//! Nothing here knows the BEAM. An [`Id`] is a run of words whose meaning only the caller knows, a
//! [`Pid`] is one word, and what fits no words is an [`Opaque`] of the caller's.
//!
//! - [`Table`] holds the workers of one registry.
//! - [`Starts`] knows which processes of the VM are busy with a start or being stopped, [`Waits`] who
//!   waits for whom.
//! - [`Names`] finds a registry's slot by its name, [`Published`] is the table in that slot.
//!
//! # Consistency
//!
//! Every operation on one id is linearizable: it takes effect at one moment between its call and
//! its return. [`Table::count`] agrees with what lookups can see once no operation is under way.
//! [`Table::scan`] is no snapshot, but it passes over the space of hashes once: an id that is there
//! throughout is met exactly once, however the table grows or shrinks meanwhile. One that is removed
//! and inserted again while its part is read may be met with both processes.
//!
//! # Locks
//!
//! [`Table::get`], [`Table::get_many`], [`Table::count`], [`Table::scan`] and [`Table::sample`] take no lock, and all but
//! the last, which draws a random number, write no memory that threads share. Writers lock one shard
//! of 64 for the time of one insert or removal, and compare ids that fit into no slot before that.
//! [`Table::id_of`] and [`Table::last_id_of`] go the way of the writers, by pid, and lock one shard of
//! at most 2048 and one of 64 for the time of one look.
//!
//! # Memory
//!
//! What readers may still look at is freed by a thread that has to call [`reclaim`].

mod boxed;
mod children;
mod epoch;
mod id;
#[cfg(all(test, registry_table_loom))]
mod models;
mod names;
mod past;
mod pids;
mod published;
mod segment;
mod shard;
mod starts;
mod sync;
mod table;
mod waits;

#[cfg(not(registry_table_loom))]
pub use epoch::reclaim;
pub use epoch::{Pinned, collect, drop_later, is_stopped, pin};
pub use id::{Id, Opaque, Pid, Remembered, Stored};
pub use names::Names;
pub use published::Published;
pub use starts::{Busy, Does, Flight, Starts};
pub use table::{Conflict, Cursor, Table, Worker};
pub use waits::{Wait, Waits};
