FROM mcr.example/powershell:7.5
SHELL ["pwsh", "-Command"]
RUN Get-Process | Out-Null; cd /x
USER app
