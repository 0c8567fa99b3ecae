# A chat for `ws-worker serve --app http://127.0.0.1:8080/`:  rackup --host 127.0.0.1 --port 8080

run lambda { |env|
  next [200, {}, []] unless env["HTTP_WS_EVENT"] == "message" # A 2xx lets the socket in; there is nothing to say when it is gone.
  [200, { "ws-to" => "all", "content-type" => env["CONTENT_TYPE"] }, [env["rack.input"].read]]
}
