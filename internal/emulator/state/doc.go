// Package state is the ground truth of an emulated Clerk: instances, their
// resources, the changes that Clerk allows, and the webhook body that each
// change emits. It imports nothing else of ours, so that it reads Clerk's
// specification a second time, independently of Rollcall.
//
//	s := state.New(state.Options{Seed: 7})
//	in := s.AddInstance(state.InstanceOptions{})
//	in.Seed(state.SeedOptions{Users: 1000, Organizations: 50, Memberships: 3000})
//	in.OnEvent(func(e state.Event) { … })            // must not block
//	u, err := in.CreateUser(state.Request{ClientIP: "203.0.113.7"}, state.UserParams{…})
//
// # Reading
//
// A resource is immutable once stored: a change puts a changed copy in its
// place. So a read returns a pointer (nil where there is none) that stays as it
// is, to be filtered and rendered without any lock. The listings (Users,
// Organizations, …) are in ascending order of creation; their slices are
// shared and must not be modified. Filters, orders and pages are the caller's.
//
// JSON in Clerk's Backend API shape comes from View: json.Marshal(in.View(r))
// for any resource r. Some resources embed others (a membership has its
// organization and user, a role its permissions); View looks them up as they
// are now. A *User, *Organization, *Permission, *Session and *Invitation embed
// nothing: json.Marshal renders them too, users more slowly.
//
// # Changing
//
// Every change is a method of Instance that takes the Request it came with.
// Changes of one instance are serialised. A change that Clerk would refuse
// changes nothing and returns an *Error with Clerk's status and code.
// Everything emitted is emitted before the change returns, in the order of the
// changes, to the functions given to OnEvent, under the instance's lock: they
// must neither block nor call the instance.
//
// # Time
//
// Every change has an updated_at of its own: a logical clock of milliseconds
// over the clock passed in, strictly increasing within an instance. More than
// 1,000 changes a second push it ahead of the clock passed in. The event's
// timestamp is 5 to 30 ms later and strictly increasing too. With
// Request.KeepUpdatedAt a change of something that exists keeps its updated_at,
// while the event's timestamp advances.
//
// # Events
//
// An event's data are the Backend API's object, with these differences, after
// the official examples: a session has its user; an accepted invitation says
// who accepted; a waitlist entry's object is waitlistEntry, a subscription
// item's subscription_item; billing has other, flatter objects; a deletion is a
// stub, but for a membership's, which is the whole object with its old
// updated_at. private_metadata are in events, as in the examples. A sign-in
// emits session.created and user.updated. TouchSession, ExpireSession and
// DeleteWaitlistEntry emit nothing, for Clerk has no event for them; a role's
// new key and permissions show in memberships without an event of theirs.
//
// # Deletions
//
// Deleting an organization takes its memberships, invitations and domains with
// it; deleting a user its memberships and sessions. Whether Clerk emits their
// deletions is not known: InstanceOptions.EmitCascade does. All of them are
// remembered with their time (Deleted).
//
// # Memory
//
// 100,000 users with 100,000 memberships take 112 MB of live heap. With
// GOMEMLIMIT=260MiB and GOGC=50 (debug.SetMemoryLimit, debug.SetGCPercent) the
// process stays below 220 MB, with 300,000 memberships below 270 MB, also while
// it saves or loads: both go resource by resource.
package state
