#!/bin/sh
# Stand-in: the published sshd feature wants to be installed after one of this name.
