// A client as kubelets and the Secrets Store CSI driver are: real grpc-go, dialling a Unix socket in each of the ways that
// are in use. It knows no message: it sends the bytes of REQUEST, or an empty message, and says how many bytes came back.
//
//	grpc-go SOCKET METHOD [REQUEST]
//
// prints a line for each way of dialling, "<way> ok <bytes>" or "<way> <error>", and exits with 0 if all went well.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

func main() {
	if len(os.Args) != 3 && len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: grpc-go SOCKET METHOD [REQUEST]")
		os.Exit(2)
	}
	socket, method := os.Args[1], os.Args[2]
	// What a message does not know it keeps as it is, so this one can carry any other.
	request := &emptypb.Empty{}
	if len(os.Args) == 4 {
		bytes, err := os.ReadFile(os.Args[3])
		if err == nil {
			err = proto.Unmarshal(bytes, request)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	bare := grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", address)
	})
	// Dials this socket whatever the target says, so that any authority can be sent.
	fixed := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	})
	ways := []struct {
		name, target string
		options      []grpc.DialOption
	}{
		{"bare-path", socket, []grpc.DialOption{bare}}, // kubelet: registration
		{"unix-scheme", "unix://" + socket, nil},
		{"localhost", socket, []grpc.DialOption{bare, grpc.WithAuthority("localhost")}}, // kubelet: CSI
		{"raw-path", socket, []grpc.DialOption{bare, grpc.WithAuthority(socket)}},       // what older ones sent
		{"empty", "passthrough:///", []grpc.DialOption{fixed}},
		{"secrets-store", socket, []grpc.DialOption{bare, // the Secrets Store CSI driver up to 1.5, as it dials its providers
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(4 << 20)),
			grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{"service": "v1alpha1.CSIDriverProvider"}], "waitForReady": true,
				"retryPolicy": {"MaxAttempts": 3, "InitialBackoff": "1s", "MaxBackoff": "10s", "BackoffMultiplier": 1.1,
				"RetryableStatusCodes": ["UNAVAILABLE"]}}]}`)}},
	}
	failed := false
	for _, way := range ways {
		bytes, err := call(way.target, method, request, way.options)
		if err != nil {
			failed = true
			fmt.Printf("%s %v\n", way.name, err)
			continue
		}
		fmt.Printf("%s ok %d\n", way.name, bytes)
	}
	if failed {
		os.Exit(1)
	}
}

// One connection and several calls on it: small ones, and one whose headers need more than a frame's share of the table.
func call(target, method string, request proto.Message, options []grpc.DialOption) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithBlock())
	connection, err := grpc.DialContext(ctx, target, options...)
	if err != nil {
		return 0, err
	}
	defer connection.Close()
	bytes := 0
	for _, size := range []int{0, 0, 3000, 9000, 0} {
		padded := metadata.AppendToOutgoingContext(ctx, "x-padding", strings.Repeat("x", size))
		answer := &emptypb.Empty{}
		if err := connection.Invoke(padded, method, request, answer); err != nil {
			return 0, err
		}
		bytes = proto.Size(answer)
	}
	return bytes, nil
}
