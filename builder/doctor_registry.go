package builder

import (
	"context"
	"errors"
	"fmt"

	"gobuild/registry"
)

// registryConfig is what a Config says about registries.
func (cfg *Config) registryConfig(notice func(string)) registry.Config {
	return registry.Config{
		Insecure: cfg.InsecureRegistries, InsecureAll: cfg.InsecureAll, Hosts: cfg.RegistryHosts, PushChunk: cfg.PushChunk,
		LeaveImmutable: cfg.LeaveImmutable, Logins: cfg.Logins, DockerConfig: cfg.DockerConfig, TokenHosts: cfg.TokenHosts,
		Retries: cfg.Tries, RetryDelay: cfg.RetryDelay,
		CAFile: cfg.CAFile, AllowPrivate: cfg.AllowPrivate, Proxy: cfg.proxy(), Notice: notice,
	}
}

// registryChecks ask registries whether they answer (FEATURES N10): once each, since a diagnosis should be quick.
func registryChecks(ctx context.Context, cfg Config, hosts []string) []Check {
	if len(hosts) == 0 {
		return nil
	}
	if cfg.Tries == 0 {
		cfg.Tries = 1
	}
	client, err := registry.New(cfg.registryConfig(nil))
	if err != nil {
		return []Check{registryCheck("settings", registry.Answer{}, err)}
	}
	defer client.Close()
	var list []Check
	for _, host := range hosts {
		answer, err := client.Check(ctx, host)
		list = append(list, registryCheck(host, answer, err))
	}
	return list
}

func registryCheck(host string, a registry.Answer, err error) Check {
	name := "registry " + host
	if err == nil {
		return ok(name, fmt.Sprintf("answers over %s, %s", a.Scheme, a.Access()))
	}
	c := Check{Name: name, State: StateMissing, Found: "no answer", Why: err.Error() + ": nothing is pulled from it or pushed to it"}
	if errors.Is(err, registry.ErrUnauthorized) { // what is public may still be pulled
		c.State, c.Found, c.Why = StateLimited, "answers, and wants a login", err.Error()
	}
	if r := (interface{ Remedy() string })(nil); errors.As(err, &r) {
		c.Remedy = r.Remedy()
	}
	if c.Remedy == "" {
		c.Remedy = "check the name, and the network between here and there"
	}
	return c
}
