package main

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/freshness"
	"github.com/rollcall-dev/rollcall/internal/gateway"
	"github.com/rollcall-dev/rollcall/internal/identity"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

const roleGateway = "gateway"

// startGateway serves on its listener until the context ends.
func (p *process) startGateway(ctx context.Context, g *errgroup.Group) error {
	o, err := gatewayOptions(p.config)
	if err != nil {
		return cli.Usage(err)
	}
	verifier, closeVerifier, err := newVerifier(p.config)
	if err != nil {
		return cli.Usage(err)
	}
	issuer, err := identity.New([]byte(p.config.Identity.Seed), time.Now)
	if err != nil {
		return cli.Usage(err)
	}
	closeFreshener, err := p.freshener(&o)
	if err != nil {
		return cli.Usage(err)
	}
	list, err := p.startRevocations(ctx, g)
	if err != nil {
		return err
	}
	o.Revocations = list
	o.Verifier, o.Signer, o.Log, o.Metrics = verifier, issuer, p.log, gateway.NewMetrics(p.metrics)
	handler, err := gateway.New(o)
	if err != nil {
		return cli.Usage(err)
	}
	g.Go(func() error {
		defer closeVerifier()
		defer closeFreshener()
		return gateway.Serve(ctx, p.gatewayListener, handler, p.log)
	})
	return nil
}

// freshenerPart is how the store that the gateway asks is.
const freshenerPart = "gateway/freshness"

// freshener adds it to the options, where one is configured.
func (p *process) freshener(o *gateway.Options) (closeIt func(), err error) {
	name := p.config.Gateway.Freshness.Store
	if name == "" {
		return func() {}, nil
	}
	c, _ := p.config.Store(name) // checked with the configuration
	part := p.health.Part(freshenerPart)
	part.OK() // until it is asked
	s, err := freshness.New(freshness.Options{DatabaseURL: c.DatabaseURL, Schema: c.Schema, Status: func(err error) {
		if err == nil {
			part.OK()
			return
		}
		part.Degraded("store " + name + " can't be asked (gateway.freshness), so that the tokens' roles count: " + err.Error())
	}})
	if err != nil {
		return nil, err
	}
	o.Freshener = s
	return s.Close, nil
}

// gatewayOptions are what the configuration says of the gateway; the rest is the
// caller's.
func gatewayOptions(c *config.Config) (gateway.Options, error) {
	g := c.Gateway
	o := gateway.Options{OpenWhenStale: g.Revocation.OnStale == "open", SignInURL: g.SignInURL, SelectOrganizationURL: g.SelectOrganizationURL}
	for _, text := range g.TrustedProxies {
		network, err := config.ParseNetwork(text)
		if err != nil {
			return o, err
		}
		o.TrustedProxies = append(o.TrustedProxies, netip.PrefixFrom(network.Addr().Unmap(), network.Bits()))
	}
	for _, r := range g.Routes {
		route := gateway.Route{
			Host: r.Host, Path: r.Path, StripPrefix: r.StripPrefix, Audience: r.Audience, Public: r.Public,
			Require: auth.Requirements(r.Require), Timeout: r.Timeout, MaxBody: r.MaxBody, LogOneIn: r.LogOneIn,
		}
		if r.Upstream != "" {
			upstream, err := url.Parse(r.Upstream)
			if err != nil {
				return o, err
			}
			route.Upstream = upstream
		}
		o.Routes = append(o.Routes, route)
	}
	return o, nil
}

// newVerifier is of all instances whose keys can be found.
func newVerifier(c *config.Config) (v gateway.Verifier, closeIt func(), err error) {
	o := auth.Options{MaxTokenLife: c.Gateway.MaxTokenLife}
	for _, in := range c.Instances {
		if !in.HasKeys() {
			continue
		}
		o.Instances = append(o.Instances, auth.Instance{
			Name: in.Name, PublishableKey: in.PublishableKey, Issuer: in.Issuer, JWTKey: in.JWTKey, SecretKey: in.SecretKey, APIURL: in.APIURL,
			AuthorizedParties: in.AuthorizedParties, AllowNoParty: c.Gateway.AllowNoParty,
		})
	}
	if len(o.Instances) == 0 {
		return keyless{}, func() {}, nil
	}
	verifier, err := auth.New(o)
	if err != nil {
		return nil, nil, err
	}
	return verifier, verifier.Close, nil
}

// keyless is the verifier of a dev stack that knows no Clerk.
type keyless struct{}

func (keyless) VerifyRequest(r *http.Request) (*auth.Claims, error) {
	if r.Header.Get("Authorization") == "" && !strings.Contains(r.Header.Get("Cookie"), "__session") {
		return nil, &auth.Error{Code: auth.CodeTokenMissing, Status: http.StatusUnauthorized, Message: "no session token: send it as Authorization: Bearer, or in Clerk's cookie __session"}
	}
	return nil, &auth.Error{Code: auth.CodeKeysUnavailable, Status: http.StatusServiceUnavailable, Message: "there are no keys to verify tokens with: set CLERK_PUBLISHABLE_KEY, or start with --emulate"}
}
