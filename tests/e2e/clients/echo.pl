#!/usr/bin/env perl
# Debian's libprotocol-websocket-perl as a client of an echo: perl echo.pl VERSION HOST PORT PATH
# Says each text, waits for it to come back, closes, and prints "echoed N" when all was well.
use strict;
use warnings;
use utf8;
use IO::Socket::INET;
use Protocol::WebSocket::Handshake::Client;

my ($version, $host, $port, $path) = @ARGV;
my %names = ('hixie-75' => 'draft-hixie-75', 'hixie-76' => 'draft-ietf-hybi-00',
             'hybi-08' => 'draft-ietf-hybi-10', 'rfc6455' => 'draft-ietf-hybi-17');
$SIG{ALRM} = sub { die "nothing came\n" };
alarm 10;

my $socket = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port, Proto => 'tcp') or die "no connection: $!\n";
binmode $socket;
$socket->autoflush(1);
my $handshake = Protocol::WebSocket::Handshake::Client->new(url => "ws://$host:$port$path", version => $names{$version});
$handshake->req->origin('http://example.org');

sub more {
    my $bytes = '';
    sysread($socket, $bytes, 65536) or die "the stream ended\n";
    return $bytes;
}

print $socket $handshake->to_string;
my $bytes = '';
until ($handshake->is_done) {
    $bytes .= more();
    $handshake->parse($bytes);
    die $handshake->error . "\n" if $handshake->error;
}
# The library tells a 75 answer from a 76 one by the fields' names; it knows no more of 8 than of 13.
my $answered = $handshake->res->version;
die "answered as $answered\n"
    if $version =~ /hixie/ ? $answered ne $names{$version} : $answered ne 'draft-ietf-hybi-10';

my $frames = $handshake->build_frame(max_payload_size => 1_000_000);
$frames->append($bytes);
my @texts = ('hello', 'こんにちは 😀', 'x' x 125, 'x' x 126, 'y' x 70000, map { "message $_" } 1 .. 100);
for my $text (@texts) {
    print $socket $handshake->build_frame(buffer => $text, max_payload_size => 1_000_000)->to_bytes;
    my $back;
    until (defined($back = $frames->next)) { $frames->append(my $more = more()) }
    die "came back otherwise\n" if $back ne $text;
}
if ($version ne 'hixie-75') {
    print $socket $handshake->build_frame(type => 'close')->to_bytes;
    until (defined $frames->next_bytes && $frames->is_close) { $frames->append(my $more = more()) }
}
print 'echoed ', scalar @texts, "\n";
