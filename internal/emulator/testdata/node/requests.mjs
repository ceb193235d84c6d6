// Uses the emulated Backend API with Clerk's own library, as an application
// would: {apiUrl, secretKey} as JSON on stdin, how many checks held on stdout.
import { createClerkClient } from '@clerk/backend';
import strict from 'node:assert/strict';
import { text } from 'node:stream/consumers';

const { apiUrl, secretKey } = JSON.parse(await text(process.stdin));
const clerk = createClerkClient({ apiUrl, secretKey });

let held = 0;
const assert = new Proxy(strict, {
  get: (target, name) => (...args) => {
    held++;
    return target[name](...args);
  },
});

async function fails(promise, status, code) {
  await assert.rejects(promise, err => {
    assert.equal(err.status, status);
    assert.equal(err.errors[0].code, code);
    assert.ok(err.clerkTraceId);
    return true;
  });
}

async function users() {
  const made = [];
  for (const name of ['ann', 'bob', 'cid']) {
    const user = await clerk.users.createUser({
      emailAddress: [`${name}@example.com`], firstName: name, username: `${name}_1`, publicMetadata: { deep: { a: 1 } },
    });
    made.unshift(user.id);
  }
  await fails(clerk.users.createUser({ emailAddress: ['ann@example.com'] }), 422, 'form_identifier_exists');

  const paged = [];
  for (let page; !page || page.data.length === 2; ) {
    page = await clerk.users.getUserList({ limit: 2, offset: paged.length, orderBy: '-created_at' });
    assert.equal(page.totalCount, 3);
    paged.push(...page.data.map(user => user.id));
  }
  assert.deepEqual(paged, made);
  assert.equal(await clerk.users.getCount({ emailAddress: ['ann@example.com', 'bob@example.com'] }), 2);
  const found = await clerk.users.getUserList({ query: 'BOB', userId: made });
  assert.deepEqual(found.data.map(user => user.id), [made[1]]);

  const bob = made[1];
  const updated = await clerk.users.updateUser(bob, { lastName: 'Ant', privateMetadata: { k: 1 } });
  assert.equal(updated.lastName, 'Ant');
  assert.deepEqual(updated.privateMetadata, { k: 1 });
  const merged = await clerk.users.updateUserMetadata(bob, { publicMetadata: { deep: { b: 2 } } });
  assert.deepEqual(merged.publicMetadata, { deep: { a: 1, b: 2 } });
  assert.equal((await clerk.users.banUser(bob)).banned, true);
  assert.equal((await clerk.users.unbanUser(bob)).banned, false);
  const email = await clerk.emailAddresses.createEmailAddress({ userId: bob, emailAddress: 'b2@example.com', primary: true, verified: true });
  assert.equal((await clerk.users.getUser(bob)).primaryEmailAddressId, email.id);
  await clerk.users.deleteUser(bob);
  await fails(clerk.users.getUser(bob), 404, 'resource_not_found');
  return made;
}

async function organizations([cid, , ann]) {
  const acme = await clerk.organizations.createOrganization({ name: 'Acme', slug: 'acme', createdBy: ann });
  await clerk.organizations.createOrganization({ name: 'Beta' });
  assert.equal((await clerk.organizations.getOrganization({ slug: 'acme' })).id, acme.id);
  const list = await clerk.organizations.getOrganizationList({ query: 'ACM', includeMembersCount: true });
  assert.equal(list.totalCount, 1);
  assert.equal(list.data[0].membersCount, 1);
  assert.equal((await clerk.organizations.updateOrganization(acme.id, { name: 'Acme Ltd' })).name, 'Acme Ltd');
  const merged = await clerk.organizations.updateOrganizationMetadata(acme.id, { publicMetadata: { plan: 'x' } });
  assert.deepEqual(merged.publicMetadata, { plan: 'x' });

  const organizationId = acme.id;
  const membership = await clerk.organizations.createOrganizationMembership({ organizationId, userId: cid, role: 'org:member' });
  assert.equal(membership.organization.id, organizationId);
  assert.equal(membership.publicUserData.userId, cid);
  const members = await clerk.organizations.getOrganizationMembershipList({ organizationId, orderBy: '-created_at', role: ['org:member'] });
  assert.deepEqual(members.data.map(m => m.publicUserData.userId), [cid]);
  assert.equal((await clerk.organizations.getInstanceOrganizationMembershipList({})).totalCount, 2);
  assert.equal((await clerk.users.getOrganizationMembershipList({ userId: cid })).totalCount, 1);
  assert.equal((await clerk.organizations.updateOrganizationMembership({ organizationId, userId: cid, role: 'org:admin' })).role, 'org:admin');
  await clerk.organizations.deleteOrganizationMembership({ organizationId, userId: cid });

  const invited = await clerk.organizations.createOrganizationInvitation({ organizationId, emailAddress: 'new@example.com', role: 'org:member', inviterUserId: ann });
  await clerk.organizations.createOrganizationInvitationBulk(organizationId, [{ emailAddress: 'n2@example.com', role: 'org:member' }]);
  assert.equal((await clerk.organizations.getOrganizationInvitationList({ organizationId, status: ['pending'] })).totalCount, 2);
  const revoked = await clerk.organizations.revokeOrganizationInvitation({ organizationId, invitationId: invited.id, requestingUserId: ann });
  assert.equal(revoked.status, 'revoked');
  const domain = await clerk.organizations.createOrganizationDomain({ organizationId, name: 'acme.example', enrollmentMode: 'automatic_invitation' });
  assert.equal((await clerk.organizations.getOrganizationDomainList({ organizationId })).data[0].id, domain.id);
  await clerk.organizations.deleteOrganization(organizationId);
  await fails(clerk.organizations.getOrganization({ organizationId }), 404, 'resource_not_found');
}

async function invitations() {
  const made = await clerk.invitations.createInvitation({ emailAddress: 'guest@example.com', publicMetadata: { a: 1 } });
  const list = await clerk.invitations.getInvitationList({ status: 'pending' });
  assert.equal(list.totalCount, 1);
  assert.equal(list.data[0].id, made.id);
  assert.equal((await clerk.invitations.revokeInvitation(made.id)).status, 'revoked');
  await fails(clerk.invitations.revokeInvitation(made.id), 400, 'invitation_already_revoked');
}

async function sessions(userId) {
  const session = await clerk.sessions.createSession({ userId });
  assert.equal((await clerk.sessions.getSessionList({ userId, status: 'active' })).data[0].id, session.id);
  assert.ok((await clerk.sessions.getToken(session.id)).jwt);
  assert.equal((await clerk.sessions.revokeSession(session.id)).status, 'revoked');
}

const made = await users();
await organizations(made);
await invitations();
await sessions(made[2]);
await clerk.waitlistEntries.create({ emailAddress: 'wait@example.com' });
assert.equal((await clerk.waitlistEntries.list({})).totalCount, 1);
console.log(held);
