"""A chat for `ws-worker serve --app http://127.0.0.1:8080/ws`:  python3 chat.py runserver 8080"""

import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"])


# A hook comes from the worker and from no form of ours, so there is no token in it. What a browser can be made to post cannot
# carry a Ws-Event; what else could reach this URL is kept away by the proxy or told apart by its signature.
@csrf_exempt
def hook(request):
    if request.headers["Ws-Event"] != "message":
        return HttpResponse()  # A 2xx lets the socket in; there is nothing to say when it is gone.
    return HttpResponse(request.body, headers={"Ws-To": "all", "Content-Type": request.headers["Content-Type"]})


urlpatterns = [path("ws", hook)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
