// SPDX-License-Identifier: Apache-2.0

// Package world assembles the emulated AWS around one instance: KMS, EC2 and the
// instance metadata service on loopback listeners, each behind a proxy that can
// break its wire, and the control API that labctl drives. The services
// themselves, the machine and the scenarios live elsewhere. No product code may
// import this package.
package world
