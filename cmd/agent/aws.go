// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"golang.org/x/sync/singleflight"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/envelope/kms"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/metrics"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/internal/volume/ebs"
)

// connectLimit bounds the whole of finding out who and where this machine is.
const connectLimit = 5 * time.Second

// connection is AWS as this machine reaches it, once it knows who it is.
type connection struct {
	region   string
	instance string
	imds     *imds.Client
	kms      *kms.Client
	cloud    *ebs.Adapter
}

// connector finds out who and where this machine is, when a volume first needs
// to know, and again until it succeeds. So the agent starts, serves operators
// and says what is wrong while the metadata service is down.
// It implements volume.Cloud, volume.Maker and envelope.KMS.
type connector struct {
	metrics *metrics.Metrics
	worked  func() []string // CMKs that were usable before this process began

	flight singleflight.Group
	mu     sync.Mutex
	cfg    config.Config
	made   *connection // under cfg; nil until somebody needed it
	// generation counts the configurations, so that none is overtaken by an older one.
	generation int
}

// configure takes settings into use from the next call on.
func (c *connector) configure(cfg config.Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cfg, c.made = cfg, nil
	c.generation++
}

func (c *connector) settings() (config.Config, *connection, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cfg, c.made, c.generation
}

func (c *connector) connect(ctx context.Context) (*connection, error) {
	cfg, made, generation := c.settings()
	if made != nil {
		return made, nil
	}
	// One attempt serves every volume that waits; none is cut short by another's limit.
	answer := c.flight.DoChan(strconv.Itoa(generation), func() (any, error) {
		fctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectLimit)
		defer cancel()
		return c.dial(fctx, cfg, generation)
	})
	select {
	case <-ctx.Done():
		return nil, unknownSelf(ctx.Err())
	case r := <-answer:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*connection), nil
	}
}

func (c *connector) dial(ctx context.Context, cfg config.Config, generation int) (*connection, error) {
	sdk, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithHTTPClient(httpClient()))
	if err != nil {
		return nil, &fault.Error{
			Class: fault.Misconfigured, Reason: "aws-config", Cause: "The AWS settings of this host cannot be used.",
			Hint: "Check the AWS_… variables in /etc/default/volseal.", Err: err,
		}
	}
	metadata := imds.NewFromConfig(sdk)
	instance := cfg.InstanceID
	sdk.Region = firstOf(cfg.Region, sdk.Region)
	if instance == "" || sdk.Region == "" {
		doc, err := metadata.GetInstanceIdentityDocument(ctx, nil)
		if err != nil {
			return nil, unknownSelf(err)
		}
		instance = firstOf(instance, doc.InstanceID)
		sdk.Region = firstOf(sdk.Region, doc.Region)
	}
	made, err := c.make(sdk, instance, cfg)
	if err != nil {
		return nil, err
	}
	made.imds = metadata
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation == c.generation { // else a reload came in between, and this serves its callers only
		c.made = made
	}
	return made, nil
}

func (c *connector) make(sdk aws.Config, instance string, cfg config.Config) (*connection, error) {
	cloud, err := ebs.New(sdk, ebs.Options{InstanceID: instance, Timeout: cfg.KMS.Timeout, Observe: c.metrics.EC2Request})
	if err != nil {
		return nil, fmt.Errorf("connect to AWS: %w", err)
	}
	client := kms.New(kms.NewClient(sdk), kms.Options{Timeout: cfg.KMS.Timeout, Observer: c.metrics.KMSRequest})
	for _, arn := range c.worked() {
		client.Worked(arn)
	}
	return &connection{region: sdk.Region, instance: instance, cloud: cloud, kms: client}, nil
}

// httpClient bounds connecting apart from the whole call, so that a host that
// does not answer at all is told from one that answers slowly.
func httpClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithDialerOptions(func(d *net.Dialer) { d.Timeout = 3 * time.Second })
}

func unknownSelf(err error) error {
	return &fault.Error{
		Class:  fault.Identity,
		Reason: "imds",
		Cause:  "The instance metadata service does not say who this machine is.",
		Hint:   "Check that IMDSv2 is enabled for the instance. Or set region and instance_id in volseal.yaml.",
		Err:    err,
	}
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Volume implements volume.Cloud.
func (c *connector) Volume(ctx context.Context, id string) (volume.CloudVolume, error) {
	n, err := c.connect(ctx)
	if err != nil {
		return volume.CloudVolume{}, err
	}
	return n.cloud.Volume(ctx, id)
}

// Attach implements volume.Cloud.
func (c *connector) Attach(ctx context.Context, id string) error {
	n, err := c.connect(ctx)
	if err != nil {
		return err
	}
	return n.cloud.Attach(ctx, id)
}

// Detach implements volume.Cloud.
func (c *connector) Detach(ctx context.Context, id string) error {
	n, err := c.connect(ctx)
	if err != nil {
		return err
	}
	return n.cloud.Detach(ctx, id)
}

// CreateVolume implements volume.Maker.
func (c *connector) CreateVolume(ctx context.Context, v volume.NewVolume) (string, error) {
	n, err := c.connectFor(ctx, v.KeyARN)
	if err != nil {
		return "", err
	}
	return n.cloud.CreateVolume(ctx, v)
}

// FindVolume implements volume.Maker.
func (c *connector) FindVolume(ctx context.Context, token string) (string, error) {
	n, err := c.connect(ctx)
	if err != nil {
		return "", err
	}
	return n.cloud.FindVolume(ctx, token)
}

// Snapshot implements volume.Maker.
func (c *connector) Snapshot(ctx context.Context, id string) (volume.CloudSnapshot, error) {
	n, err := c.connect(ctx)
	if err != nil {
		return volume.CloudSnapshot{}, err
	}
	return n.cloud.Snapshot(ctx, id)
}

// CopySnapshot implements volume.Maker.
func (c *connector) CopySnapshot(ctx context.Context, s volume.NewCopy) (string, error) {
	n, err := c.connectFor(ctx, s.KeyARN)
	if err != nil {
		return "", err
	}
	return n.cloud.CopySnapshot(ctx, s)
}

// FindCopy implements volume.Maker.
func (c *connector) FindCopy(ctx context.Context, token string) (string, error) {
	n, err := c.connect(ctx)
	if err != nil {
		return "", err
	}
	return n.cloud.FindCopy(ctx, token)
}

// GenerateDataKey implements envelope.KMS.
func (c *connector) GenerateDataKey(ctx context.Context, arn string, ec envelope.Context) (*envelope.Secret, []byte, error) {
	n, err := c.connectFor(ctx, arn)
	if err != nil {
		return nil, nil, err
	}
	return n.kms.GenerateDataKey(ctx, arn, ec)
}

// Decrypt implements envelope.KMS.
func (c *connector) Decrypt(ctx context.Context, arn string, ec envelope.Context, wrapped []byte) (*envelope.Secret, error) {
	n, err := c.connectFor(ctx, arn)
	if err != nil {
		return nil, err
	}
	return n.kms.Decrypt(ctx, arn, ec, wrapped)
}

// ReEncrypt implements envelope.KMS.
func (c *connector) ReEncrypt(ctx context.Context, fromARN, toARN string, ec envelope.Context, wrapped []byte) ([]byte, error) {
	if _, err := c.connectFor(ctx, fromARN); err != nil {
		return nil, err
	}
	n, err := c.connectFor(ctx, toARN)
	if err != nil {
		return nil, err
	}
	return n.kms.ReEncrypt(ctx, fromARN, toARN, ec, wrapped)
}

// connectFor refuses a CMK of another region before KMS is asked: its own
// answer, that no such key exists, would send the operator looking elsewhere.
func (c *connector) connectFor(ctx context.Context, arn string) (*connection, error) {
	n, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	if r := envelope.KeyRegion(arn); r != n.region {
		return nil, &fault.Error{
			Class: fault.Misconfigured, Reason: "wrong-region",
			Cause: fmt.Sprintf("The CMK is in %s, but this host and its volumes are in %s.", r, n.region),
			Hint:  "Create a CMK in " + n.region + "; EBS cannot use a key of another region.",
		}
	}
	return n, nil
}
